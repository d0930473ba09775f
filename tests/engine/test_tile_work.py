"""A task of tiles holds one row block at a time, however many it visits."""

import threading
import weakref
from types import SimpleNamespace

import numpy as np

from oocml.engine.tile_work import TileWork
from oocml.models.protocol import Kernel, Pass, StateSpec
from oocml.schedule.layout import Layout
from oocml.schedule.tasks import Task
from oocml.store.buffers import BufferPool

SPECS = {
    "U": StateSpec("U", "row", ("rows",), "float32", "rows"),
    "V": StateSpec("V", "col", ("cols",), "float32", "columns"),
}


class Blocks:
    """Blocks in memory; the greatest number of row blocks and tiles that somebody held at a time."""

    def __init__(self):
        self.result = SimpleNamespace(
            usage=SimpleNamespace(wait_s=0.0, kernel_s=0.0, visits=0, updates=0), parts={}
        )
        self.alive, self.most = [], 0
        self.stored = []

    def load(self, name, index):
        return self._counted() if name == "U" else np.zeros(2, np.float32)

    def tile(self, p, q):
        return self._counted(), 1

    def _counted(self):
        made = np.zeros(2, np.float32)
        self.alive = [ref for ref in self.alive if ref() is not None] + [weakref.ref(made)]
        self.most = max(self.most, len(self.alive))
        return made

    def store(self, name, index, block):
        self.stored.append((name, index))


def test_a_row_block_and_its_tile_are_let_go_of_before_the_next_are_read():
    pass_ = Pass("update", "tiles", "k", reads=("U", "V"), writes=("U", "V"), data=True)
    layout = Layout((0, 1, 2, 3), (0, 2, 4, 6), (0, 2), (0, 1), (0, 3), (0, 3))
    context = SimpleNamespace(
        layout=layout,
        specs=SPECS,
        pool=BufferPool(0),
        compute=threading.Lock(),
        problem=SimpleNamespace(seed=0, n_features=2),
        constants={},
    )
    work = TileWork.__new__(TileWork)
    work.context, work.pass_, work.blocks, work.shared = context, pass_, Blocks(), {}
    work.kernel, work.names = (
        Kernel(lambda visit: None),
        {"row": ["U"], "col": ["V"], "cell": [], "shared": []},
    )
    work.task, work.message = (
        Task(0, (0, 1, 2), (0,), 0),
        SimpleNamespace(seeds=(0,), setup=SimpleNamespace(driver="driver")),
    )
    work.tiles()
    assert work.blocks.stored == [("U", 0), ("U", 1), ("U", 2), ("V", 0)]
    assert work.blocks.most == 2
