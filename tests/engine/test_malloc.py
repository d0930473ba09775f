"""Memory that threads have freed does not stay with the process."""

import subprocess
import sys

import pytest

KEPT_BY_THREADS = """
import ctypes, os, threading
from oocml.engine.malloc import give_back_memory, limit_malloc
limit_malloc()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
together = threading.Barrier(4)

def work():
    together.wait()
    taken = [libc.malloc(100_000) for _ in range(100)]
    for address in taken:
        libc.memset(address, 1, 100_000)
    together.wait()
    for address in reversed(taken):
        libc.free(address)

def resident():
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

before = resident()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
give_back_memory()
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_what_threads_have_freed_is_given_back():
    run = subprocess.run([sys.executable, "-c", KEPT_BY_THREADS], capture_output=True, check=True)
    assert int(run.stdout) < 4 * 2**20  # of the 40 MB that four threads had
