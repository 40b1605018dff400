"""`fairque demo`: the standard library's source files, measured once in one FIFO and once fairly by user."""

from fairque.demo.run import run_demo

__all__ = ["run_demo"]
