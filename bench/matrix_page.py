"""The matrix as pages: Markdown for the repository, HTML with colour for a browser."""

import base64
import html
import io
import math
from datetime import date
from importlib.metadata import PackageNotFoundError, version

from bench.parity import DOUBLE, QUANTITIES, STEPS, TOLERANCES, allowed

SHORT = {"tensorflow": "TF", "jax": "JAX", "torch": "torch"}
COLUMNS = {
    "outputs": "outputs", "loss": f"loss, {STEPS} steps", "gradients": "gradients", "weights": f"weights after {STEPS} steps",
}  # fmt: skip


FAULTS = [
    "- Keras 3.15.1, TensorFlow: Adam and its kin train other weights when a batch holds an id twice, since each row of a "
    "`tf.IndexedSlices` is squared alone (embeddings here were 5 to 40 % off after ten steps; plain gradient descent hides it). "
    "Minimal script: `bench/upstream/adam_repeated_ids.py`; no upstream issue was found. Mended in `backend.take_rows`.",
    "- Keras 3.15.1, JAX and torch: `keras.backend.result_type` brings float64 back to float32 whatever `floatx` says, and "
    "Python numbers such as Adam's 0.999 become float32 before a cast. The double-precision column undoes both "
    "(`bench.parity.in_double_precision`, `exact`).",
    "- TensorFlow 2.21.0: `tf.nn.leaky_relu` keeps its slope in single precision, 1e-8 off in double "
    "(`bench/upstream/leaky_relu_double.py`). It is what is left of `VAE` and `DCGAN` there.",
    "- torch 2.13.0: the gradient of `hardsigmoid` in double precision is the sixth that single precision has, 3e-8 off "
    "(`bench/upstream/hardsigmoid_double.py`; no upstream issue was found). It is all that is left of `mobilenet`.",
    "- Keras 3.15.1, TensorFlow: `Rescaling` in double precision multiplies by its factor as single precision has it "
    "(200 / 127.5 is 9e-8 off), since a Python number becomes float32 before it is cast. It is what is left of the U-Nets, "
    "`transformer_net` and other networks that scale pixels themselves, magnified by their normalisation.",
]


class MatrixPage:
    """The rows of a matrix and how they are written down.

    Args:
        rows: Of `matrix.compare`.
        curve_rows: Of `curves.compare`.
        backends: Their names, in the order of the columns.
        figure: The training curves, or `None`.
    """

    def __init__(self, rows, curve_rows, backends, figure=None):
        self.rows = rows
        self.curve_rows = curve_rows
        self.backends = backends
        self.figure = figure
        names = ("keras", *backends, "numpy")
        self.facts = f"{date.today().isoformat()}; " + ", ".join(f"{name} {_version(name)}" for name in names)

    def summary(self):
        """One paragraph: how many agree, and the largest differences."""
        if not self.rows:
            return ""
        agreeing = sum(row["ok"] for row in self.rows)
        worst = {}
        for key in (*QUANTITIES, "predicts", "continues"):
            measured = [(row[key], row["case"]) for row in self.rows if row[key] is not None]
            worst[key] = max(measured, default=(0.0, ""))
        names = {**COLUMNS, "predicts": "predictions of a bundle written elsewhere",
                 "continues": "weights of a run gone on with elsewhere"}  # fmt: skip
        parts = [f"{names[key]} {number(value)} ({case})" for key, (value, case) in worst.items()]
        return f"{agreeing} of {len(self.rows)} cases agree within their tolerance. Largest differences: {', '.join(parts)}."

    def pairs(self):
        return [(f"{a}-{b}", f"{SHORT[a]}–{SHORT[b]}") for i, a in enumerate(self.backends) for b in self.backends[i + 1 :]]

    def _of_pairs(self, row, quantity):
        """One quantity of each pair of backends, in one cell; empty where it is compared on none."""
        values = [row["pairs"].get(key, {}).get(quantity) for key, _ in self.pairs()]
        return " / ".join(map(number, values)) if any(value is not None for value in values) else ""

    def markdown(self):
        lines = ["# Parity of the backends", "", f"Written by `triptych matrix --out docs/matrix.md` on {self.facts}.", "",
                 self.summary(), ""]  # fmt: skip
        if self.rows:
            pairs = " / ".join(short for _, short in self.pairs())
            lines += [
                "Weights, seeds and batches are made by NumPy. Each difference is the largest of any array, relative to the "
                "largest value in that array (and to no less than a hundredth of the largest of all arrays). Three numbers "
                f"in a cell are {pairs}. *Bundles*: the worst of the nine ways to predict on one backend with what another "
                "wrote. *Checkpoints*: the worst of the six ways to go on elsewhere after five steps with the optimizer's "
                "state, against the ten steps undisturbed. *float64*: outputs, gradients and weights again in double "
                f"precision, for cases further apart than 1e-6: what is rounding falls to {DOUBLE:.0e} or less, unless a library "
                "stays in single precision on the way (below). "
                "Milliseconds are of one step on a batch of four, dispatch and all: for the speed of real sizes see "
                "`triptych bench`.",
                "",
                _line("case", "family", *COLUMNS.values(), "bundles", "checkpoints", "float64", "ms " + " / ".join(
                    SHORT[each] for each in self.backends), "agree"),
                _line(*["---"] * (len(COLUMNS) + 7)),
            ]  # fmt: skip
            for row in self.rows:
                cells = [self._of_pairs(row, quantity) for quantity in QUANTITIES]
                times = " / ".join("" if row[f"{b}_ms"] is None else f"{row[f'{b}_ms']:.1f}" for b in self.backends)
                ends = [number(row["predicts"]), number(row["continues"]), number(row["double"]), times]
                agree = "yes" if row["ok"] else f"**no**: {row['where']}"
                lines.append(_line(f"`{row['case']}`", row["family"], *cells, *ends, agree))
            heads = ("family", "outputs, loss, bundles", "gradients, weights, checkpoints", "why")
            lines += ["", "## Tolerances", "", _line(*heads), _line(*["---"] * 4)]
            lines += [_line(name, number(t.forward), number(t.backward), t.reason) for name, t in TOLERANCES.items()]
        if self.curve_rows and self.rows:
            lines += ["", "## Faults it found", "", *FAULTS]
        if self.curve_rows:
            lines += ["", "## Training curves", "",
                      "The default run of each app, step by step, from the same seed: largest relative difference of the loss "
                      "between any two backends; where they part, one backend against itself from weights moved by 1e-7.", "",
                      _line("task", "steps", "first step", "last step", "largest", "one backend nudged", "seen to part", "why"),
                      _line(*["---"] * 8)]  # fmt: skip
            for row in self.curve_rows:
                parted = f"step {row['part_at']}" if row["part_at"] else "never"
                values = [number(row[key]) for key in ("at_first", "at_last", "largest", "largest_nudged")]
                lines.append(_line(row["task"], row["steps"], *values, parted, row["why"]))
        return "\n".join(lines) + "\n"

    def html(self):
        """One self-contained page; a cell is green far below its tolerance, yellow near it, red beyond."""
        parts = [PAGE_HEAD, "<h1>Parity of the backends</h1>", f"<p class=facts>{html.escape(self.facts)}</p>"]
        parts.append(f"<p>{html.escape(self.summary())}</p>")
        if self.rows:
            pairs = self.pairs()
            top = "".join(f"<th colspan={len(pairs)}>{each}</th>" for each in COLUMNS.values())
            parts.append(f"<div class=wide><table><thead><tr><th rowspan=2>case<th rowspan=2>family{top}<th rowspan=2>bundles"
                         "<th rowspan=2>checkpoints<th rowspan=2>float64"
                         f"<th colspan={len(self.backends)}>ms a step<th rowspan=2>agree</tr><tr>")  # fmt: skip
            parts.append("".join(f"<th>{short}" for _ in COLUMNS for _, short in pairs))
            parts.append("".join(f"<th>{SHORT[each]}" for each in self.backends) + "</tr></thead><tbody>")
            for row in self.rows:
                cells = [f"<th>{row['case']}", f"<td class=left>{row['family']}"]
                for quantity in QUANTITIES:
                    limit = allowed(row["family"], quantity)
                    cells += [_cell(row["pairs"].get(key, {}).get(quantity), limit) for key, _ in pairs]
                cells += [_cell(row[key], allowed(row["family"], key)) for key in ("predicts", "continues")]
                rounding = row["double"] is None or row["double"] <= DOUBLE
                part = f'<td title="a library computes part of it in single precision">{number(row["double"])}'
                cells.append(_cell(row["double"], DOUBLE) if rounding else part)
                cells += [f"<td>{'' if row[f'{b}_ms'] is None else row[f'{b}_ms']}" for b in self.backends]
                cells.append("<td class=left>yes" if row["ok"] else f"<td class=left><b>no</b>: {html.escape(row['where'])}")
                parts.append("<tr>" + "".join(cells) + "</tr>")
            parts.append("</tbody></table></div><h2>Tolerances</h2><table><tr><th>family<th>outputs, loss, bundles"
                         "<th>gradients, weights, checkpoints<th>why</tr>")  # fmt: skip
            for name, each in TOLERANCES.items():
                values = f"<td>{number(each.forward)}<td>{number(each.backward)}<td class=left>{html.escape(each.reason)}"
                parts.append(f"<tr><th>{name}{values}</tr>")
            parts.append("</table>")
        if self.curve_rows:
            parts.append("<h2>Training curves</h2><table><tr><th>task<th>steps<th>first step<th>last step<th>largest"
                         "<th>one backend nudged<th>part at step<th>why</tr>")  # fmt: skip
            for row in self.curve_rows:
                values = [number(row[key]) for key in ("at_first", "at_last", "largest", "largest_nudged")]
                values = [row["steps"], *values, row["part_at"] or "never"]
                cells = "".join(f"<td>{each}" for each in values) + f"<td class=left>{html.escape(row['why'])}"
                parts.append(f"<tr><th>{row['task']}{cells}</tr>")
            parts.append("</table>")
        if self.figure is not None:
            picture = io.BytesIO()
            self.figure.savefig(picture, format="png", dpi=110, bbox_inches="tight")
            encoded = base64.b64encode(picture.getvalue()).decode()
            parts.append(f'<img alt="training curves" src="data:image/png;base64,{encoded}">')
        return "\n".join(parts)


PAGE_HEAD = """<!doctype html><html lang=en><meta charset=utf-8><title>Triptych: parity of the backends</title>
<style>
:root { color-scheme: light dark; --line: #8884 }
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1500px; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem } .facts { opacity: .7 }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: 12px; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .5rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; font-weight: 400 }
thead th { text-align: center; font-weight: 600 } tbody th, .left { text-align: left } img { max-width: 100%; margin-top: 1rem }
</style>"""


def _cell(value, limit):
    """A cell whose colour runs from green (a hundredth of the limit or less) over yellow (a third) to red (beyond)."""
    if value is None:
        return "<td>"
    if not value <= limit:
        return f'<td style="background:#d32f2f;color:#fff" title="allowed {limit:.0e}">{number(value)}'
    near = 0.0 if value == 0 else min(1.0, max(0.0, 1 + math.log10(value / limit) / 2))
    return f'<td style="background:hsl({130 - 85 * near:.0f} 60% 50% / .35)" title="allowed {limit:.0e}">{number(value)}'


def number(value):
    """A difference in as few characters as tell its size."""
    return "" if value is None else "0" if value == 0 else f"{value:.0e}"


def _line(*cells):
    return "| " + " | ".join(map(str, cells)) + " |"


def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return "?"
