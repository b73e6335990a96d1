"""Batches that are slow to make, made a few steps ahead by a thread beside the one that trains."""

import collections
import threading

import keras


class MadeAhead(keras.utils.PyDataset):
    """The batches of another dataset, in their order, up to `ahead` of them ready before they are asked for.

    The thread ends as soon as enough is ready, and a later step starts the next one. So none is left behind by an epoch
    that is broken off; a start takes a tenth of a millisecond, nothing beside a batch that is slow to make.

    Args:
        batches: A `keras.utils.PyDataset`. Its steps are asked for in their order; step 0 begins an epoch.
        ahead: Number of batches that may be ready.
    """

    def __init__(self, batches, ahead):
        super().__init__()
        self.batches, self.ahead = batches, ahead
        self.changed = threading.Condition()  # holds the lock of all that follows
        self.thread, self.running = None, False
        self._begin(0)

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, step):
        if step == 0 or step != self.to_give:
            self._begin(step)
        with self.changed:
            self._make_more()
            self.changed.wait_for(lambda: self.ready)
            batch, error = self.ready.popleft()
            self.to_give += 1
            self._make_more()
        if error is not None or self.to_give == len(self):
            self._begin(0)
        if error is not None:
            raise error
        return batch

    def _begin(self, step):
        """Drop what is ready; the next batch to be made and given is that of `step`."""
        with self.changed:
            self.to_make = len(self)
        if self.thread is not None:
            self.thread.join()
        self.ready = collections.deque()  # pairs of a batch and an exception, one of the two `None`
        self.to_make, self.to_give = step, step

    def _wants_more(self):
        return self.to_make < min(self.to_give + self.ahead, len(self))

    def _make_more(self):
        if not self.running and self._wants_more():
            self.running = True
            self.thread = threading.Thread(target=self._make, name="batches made ahead")
            self.thread.start()

    def _make(self):
        while True:
            with self.changed:
                self.running = self._wants_more()
                if not self.running:
                    return
                step = self.to_make
                self.to_make += 1
            try:
                made = self.batches[step], None
            except Exception as error:  # raised where the batch is asked for
                made = None, error
            with self.changed:
                self.ready.append(made)
                if made[1] is not None:
                    self.to_make = len(self)
                self.changed.notify()


def made_ahead(batches):
    """The same batches, made ahead where their dataset asks for it by its attribute `ahead`."""
    ahead = getattr(batches, "ahead", 0)
    return MadeAhead(batches, ahead) if ahead else batches
