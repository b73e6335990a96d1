"""torch 2.13.0: the gradient of `hardsigmoid` in double precision is the sixth of single precision, 3e-8 off."""

import torch

x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
torch.nn.functional.hardsigmoid(x).sum().backward()
print(f"gradient {x.grad.item():.16f}, a sixth {1 / 6:.16f}")
