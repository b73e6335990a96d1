"""Generation token by token: what a model has computed for earlier tokens is kept, not computed again."""

import keras
import numpy as np
from keras.src.backend import AutocastScope

from . import backend

__all__ = ["Decoder"]

MANY = 32  # tokens of a prompt that are taken in one step


class Decoder:
    """A functional model run token by token for a batch of texts, in a compiled step whose shapes never change.

    The model's own graph is followed, and a layer that looks at earlier tokens (it has a `step`) gets what it kept of
    them: keys and values, or a recurrent state. So a token costs the same wherever it stands. A long prompt is taken `MANY`
    tokens at a time where each of those layers can do that (its class says `steps_many`). What depends on the source
    alone, where there is one, is computed once for each source.

    Args:
        model: A built functional model from token ids `(batch, block_size)` to logits `(batch, block_size, entries)`, none of
            which depends on later ids; or from a dict of `"target"` or `"tokens"`, such ids, and of what is known beforehand:
            `"source"`, a text to translate, or `"image"`, pictures.
        batch_size: Number of texts at a time.
        length: Tokens taken at most between resets; by default what the model was built for.
    Raises:
        ValueError: The model was built for any number of tokens and `length` is not given.

    `decoder(token)` takes the next id and returns the logits of the one after it, `(entries,)`; given the ids of all
    texts, `(batch_size,)`, or several of each, `(batch_size, many)`, it returns `(batch_size, entries)`. `many` is how many it
    takes at a time. `decoder.reset()` forgets everything. `position` is the number of tokens taken, at most `block_size`.
    """

    def __init__(self, model, batch_size=1, length=None):
        self.model, self.batch_size = model, batch_size
        inputs = {each.name: each for each in model.inputs}
        self._target = next((inputs[name] for name in ("target", "tokens") if name in inputs), model.inputs[0])
        self._sources = [each for each in model.inputs if each is not self._target]
        self.block_size = length or self._target.shape[1]
        if self.block_size is None:
            raise ValueError("`length` must be given for a model of any number of tokens. Received: length=None")
        self._known, self._graph = parts(model, self._target)
        self._layers = [node.operation for node in nodes(self._graph) if hasattr(node.operation, "step")]
        self.many = MANY if all(getattr(layer, "steps_many", False) for layer in self._layers) else 1
        self._begin = backend.compiled(self._first, model)
        self._steps = {}  # by their tokens: one function for several shapes would be compiled for any
        self._take = backend.compiled(rows_of, model)
        self._empty = None
        if not self._sources:
            self.reset()

    def reset(self, source=None):
        """Forget everything.

        Args:
            source: Of a model that has one: an array, or a dict of them by the names of its inputs, of `batch_size` rows.
        """
        if self._sources:
            source = source if isinstance(source, dict) else {self._sources[0].name: source}
            self._empty = self._begin([np.asarray(source[each.name], "int32") for each in self._sources])
        elif self._empty is None:
            self._empty = self._first([])
        self.position, (self._memory, self._states) = 0, self._empty

    def __call__(self, token):
        ids = np.asarray(token, "int32")
        ids = ids if ids.ndim == 2 else np.array(np.broadcast_to(ids.reshape(-1, 1), (self.batch_size, 1)))
        tokens, place = ids.shape[1], self.position
        if place + tokens > self.block_size:
            raise ValueError(f"A decoder takes `block_size` tokens between resets. Received: token {place + tokens}")
        if tokens not in self._steps:
            self._steps[tokens] = backend.compiled(self._run, self.model)
        logits, self._states = self._steps[tokens](ids, np.array(place, "int32"), self._memory, self._states)
        self.position += tokens
        logits = keras.ops.convert_to_numpy(logits)
        return logits[0] if np.ndim(token) == 0 else logits

    def take(self, texts, going, first=0):
        """Take the next tokens of texts, `many` of them where each text that goes on has as many, else one.

        Args:
            texts: Ids, a list for each; zeros stand for those a shorter one has not.
            going: Numbers of the texts that go on.
            first: The place in the texts at which the decoder was at its position 0.
        Returns:
            The place of the last token taken, and the logits after it, `(batch_size, entries)`.
        """
        place = first + self.position
        room = min([self.block_size - self.position, *(len(texts[number]) - place for number in going)])
        count = self.many if room >= self.many else 1
        ids = np.zeros((self.batch_size, count), "int32")
        for row, text in zip(ids, texts, strict=False):
            given = text[place : place + count]
            row[: len(given)] = given
        return place + count - 1, self(ids)

    def reorder(self, rows):
        """Go on with what text `rows[i]` has kept in place of text i, the sources staying where they are."""
        self._states = self._take(self._states, np.asarray(rows, "int32"))

    def generate(self, prompts, count, choose=None, end=None):
        """Continue texts, those of a batch at once.

        Args:
            prompts: Lists of ids, one for each text, of any lengths.
            count: Most tokens added to each.
            choose: Takes logits `(texts, entries)` and the numbers of the texts, returns ids; the likeliest by default.
            end: The id a text ends with; it is the last added.
        Returns:
            Lists of the ids added.
        """
        choose = choose or (lambda logits, texts: logits.argmax(-1))
        texts, added = [list(prompt) for prompt in prompts], [[] for _ in prompts]
        going = np.ones(len(texts), bool)
        while going.any() and self.position < self.block_size:
            place, logits = self.take(texts, np.flatnonzero(going))
            ready = np.array([place >= len(text) - 1 for text in texts]) & going
            if not ready.any():
                continue
            (numbers,) = np.nonzero(ready)
            for number, token in zip(numbers, np.asarray(choose(logits[numbers], numbers)), strict=True):
                texts[number].append(int(token))
                added[number].append(int(token))
                going[number] = token != end and len(added[number]) < count
        return added

    def beams(self, prompt, count, end, width=4, alpha=0.6):
        """The likeliest continuations of each source found by a beam search, best first.

        A finished text of n added tokens is scored `log p / ((5 + n) / 6)^alpha`. The decoder's `batch_size` texts are
        `batch_size / width` sources, each given `width` times in a row to `reset`.

        Args:
            prompt: Ids every text begins with.
            count: Most tokens added.
            end: The id a text ends with.
            width: Number of texts for each source; one that is finished keeps its place. A search does not end while a text that
                goes on is likelier than all that are finished.
            alpha: Strength of the length penalty; 0 for none.
        Returns:
            For each source a list of `(score, ids added)`; one cut off at `count` has no `end`.
        Reference: Wu et al., 2016, arXiv 1609.08144, section 7.
        """
        if self.batch_size % width:
            raise ValueError(f"`batch_size` must be a multiple of `width`. Received: {self.batch_size} and width={width}")
        sources = self.batch_size // width
        for token in prompt:
            logits = self(np.full(self.batch_size, token, "int32"))
        # At first all beams of a source are the same text: only one of them counts.
        scores = np.where(np.arange(width) == 0, 0.0, -np.inf) + np.zeros((sources, 1))
        added = np.zeros((sources, width, 0), "int32")
        found, likeliest = [[] for _ in range(sources)], np.full((sources, 1), -np.inf)
        for place in range(1, count + 1):
            both = scores[:, :, None] + log_softmax(logits).reshape(sources, width, -1)
            entries = both.shape[-1]
            order, best = largest(both.reshape(sources, -1), 2 * width)
            rows, tokens = order // entries, order % entries
            penalty = ((5 + place) / 6) ** alpha
            kept = np.zeros((sources, width), "int64")
            for source in range(sources):
                finished = (tokens[source] == end) & (best[source] > -np.inf)
                for index in np.nonzero(finished[:width])[0]:
                    ids = [*added[source, rows[source, index]].tolist(), end]
                    found[source].append((float(best[source, index]) / penalty, ids))
                    likeliest[source] = max(likeliest[source, 0], best[source, index])
                best[source, tokens[source] == end] = -np.inf
                kept[source] = np.argsort(-best[source], kind="stable")[:width]
            rows, tokens, scores = (np.take_along_axis(each, kept, axis=-1) for each in (rows, tokens, best))
            # A finished text has had its place among the `width`; of a model that is sure, most of these are hardly likely.
            placeless = np.arange(width) >= width - np.array([[len(each)] for each in found])
            scores[placeless & (scores <= likeliest)] = -np.inf
            added = np.concatenate([np.take_along_axis(added, rows[:, :, None], axis=1), tokens[:, :, None]], axis=-1)
            if place == count or self.position == self.block_size or (scores == -np.inf).all():
                break
            self.reorder((rows + np.arange(sources)[:, None] * width).reshape(-1))
            logits = self(tokens.reshape(-1))
        for source in range(sources):
            cut = zip(scores[source], added[source], strict=True)
            found[source] += [(float(score) / penalty, ids.tolist()) for score, ids in cut if score > -np.inf]
            found[source].sort(key=lambda each: -each[0])
        return found

    def _first(self, sources):
        """What is known before the first token: tensors that do not depend on the target, and every layer's first state."""
        memory = self._known(sources) if self._known else []
        value_of = {id(symbol): value for symbol, value in zip(self._graph.inputs[1:], memory, strict=True)}
        states = []
        for node in nodes(self._graph):
            if not hasattr(node.operation, "step"):
                continue
            more, named = node.arguments.args[1:], node.arguments.kwargs
            known = {name: value_of[id(each)] for name, each in named.items() if id(each) in value_of}
            with AutocastScope(node.operation.compute_dtype):
                begun = [value_of[id(each)] for each in more if id(each) in value_of]
                states.append(node.operation.start(self.batch_size, self.block_size, *begun, **known))
        return memory, states

    def _run(self, tokens, position, memory, states):
        states = {layer.name: state for layer, state in zip(self._layers, states, strict=True)}

        def of_tokens(layer):
            if layer.name not in states:
                return layer

            def step(x, *_, **__):
                with AutocastScope(layer.compute_dtype):  # as Keras does around a layer's `call`
                    x, states[layer.name] = layer.step(x, states[layer.name], position)
                return x

            return step

        logits = run_with(self._graph, [tokens, *memory], of_tokens)
        return keras.tree.flatten(logits)[0][:, -1], [states[layer.name] for layer in self._layers]


def nodes(graph):
    """Every operation's place in a functional graph, from the inputs on."""
    levels = graph._nodes_by_depth
    return [node for depth in sorted(levels, reverse=True) for node in levels[depth] if node.operation and not node.is_input]


def parts(model, target):
    """`(known, graph)`: what a model computes from its other inputs, and from the target with it."""
    moving, needed = {id(target)}, {}
    for node in nodes(model):
        if any(id(each) in moving for each in node.input_tensors):
            moving.update(id(each) for each in node.outputs)
            needed.update((id(each), each) for each in node.input_tensors)
    frontier = [each for key, each in needed.items() if key not in moving]
    graph = keras.Function([target, *frontier], model.outputs)
    others = [each for each in model.inputs if each is not target]
    return keras.Function(others, frontier) if frontier else None, graph


def rows_of(states, rows):
    """The states of some texts of a batch, in the order of `rows`; one may come several times."""
    return keras.tree.map_structure(lambda state: keras.ops.take(state, rows, axis=0), states)


def largest(values, count):
    """`(places, values)` of the largest of each row, in their order, the earlier of equal ones first."""
    count = min(count, values.shape[-1])
    least = np.partition(values, -count, axis=-1)[:, -count]
    order = np.stack([
        (some := np.flatnonzero(row >= bound))[np.argsort(-row[some], kind="stable")[:count]]
        for row, bound in zip(values, least, strict=True)
    ])  # fmt: skip
    return order, np.take_along_axis(values, order, axis=-1)


def log_softmax(logits):
    """Logarithms of the probabilities, by NumPy in double precision."""
    logits = np.asarray(logits, "float64")
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def of_any_length(model):
    """The same layers as a model of any number of token ids, up to as many as it was built for."""
    tokens = keras.Input((None,), dtype=model.inputs[0].dtype, name=model.inputs[0].name)
    return keras.Model(tokens, run_with(model, tokens, lambda layer: layer), name=model.name)


def run_with(model, inputs, replaced):
    """The outputs of a functional model some of whose layers are replaced, by Keras's own walk over its graph.

    Args:
        model: A functional model.
        inputs: Tensors, or symbols of a new functional model, nested as the model's own.
        replaced: Takes a layer, returns what is called in its place.
    """
    return model._run_through_graph(inputs, replaced)
