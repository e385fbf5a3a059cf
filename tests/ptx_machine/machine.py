"""Run a program: the threads of a block side by side, block after block.

Threads at the same place run together. Threads that are behind run first, until they meet others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .assembler import Assembler
from .memory import Memory
from .program import Program
from .threads import Threads


class Machine:
    """A program, with the state that a block of ``threads`` threads needs to run it."""

    def __init__(self, program: Program, threads: int, memory: Memory) -> None:
        self.memory, self.threads = memory, Threads(threads)
        self._assembled = Assembler(program, self.threads, memory)

    def launch(self, blocks: int, arguments: Sequence[int]) -> None:
        """Run ``blocks`` blocks of the kernel, with the bits of its arguments."""
        assembled = self._assembled
        assembled.take(arguments)
        self.memory.start_launch()
        for block in range(blocks):
            assembled.start_block(block)
            self.memory.start_block()
            self.threads.start()
            with np.errstate(all="ignore"):
                self._run()

    def _run(self) -> None:
        steps, leaders, threads = self._assembled.steps, self._assembled.leaders, self.threads
        while found := threads.next():
            at, who = found
            while True:
                step = steps[at]
                if step.parts:
                    threads.place[who] = at
                try:
                    step.run(who)
                except Exception as error:
                    error.add_note(f"at {at}: {step.text}; threads {threads.numbers[who][:8]}...")
                    raise
                if step.parts:
                    break
                at += 1
                if at in leaders:
                    threads.place[who] = at
                    break
