# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Many machines, by Ray Data: one reader, a pool of actors that do the work, and the results back to this process.

The reader is a streaming task on this machine, so only it has to have the files; it is slowed down when the actors do
not keep up. An actor writes to the Qdrant server itself: passages go to it, counts come back. One that dies is started
again, and its batch is done again.

Batches travel as bytes: what is ours stays out of Arrow's schemas. So do errors, which would lose their words.
"""

from __future__ import annotations

import logging
import os
import pickle
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, Datasource, ReadTask
from ray.data.block import BlockMetadata
from ray.exceptions import RayError

from .batches import Batch
from .work import BatchWork, WorkSettings
from .workers import MAX_DEATHS, available_cores, sendable

_COLUMN = "batch"


class BatchActor:
    """
    What an actor is: the work, with a model of its own.

    :param settings: of the work.
    """

    def __init__(self, settings: WorkSettings) -> None:
        from resrank_pipelines.command import quiet_libraries

        quiet_libraries()  # the run counts what was cut
        self._work = BatchWork(settings)

    def __call__(self, block: pa.Table) -> pa.Table:
        """
        Do the work.

        :param block: batches as read; an error of the reader is passed on.
        :returns: finished ones.
        """
        return _block(self._done(value) for value in _values(block))

    def _done(self, value: Batch | Exception) -> Batch | Exception:
        if isinstance(value, Exception):
            return value
        try:
            return self._work(value)
        except Exception as error:
            return sendable(error)


class CorpusDatasource(Datasource):
    """
    A corpus as a stream of blocks, each one batch.

    :param batches: read in one task on the machine of the driver.
    """

    def __init__(self, batches: Iterable[Batch]) -> None:
        super().__init__()
        self._batches = batches

    @property
    def supports_distributed_reads(self) -> bool:
        """
        Where the reader runs.

        :returns: false: on the driver's machine.
        """
        return False

    def estimate_inmemory_data_size(self) -> int | None:
        """
        How large the corpus is.

        :returns: `None`: it is not known, and never in memory.
        """
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:  # noqa: ARG002
        """
        Make the reader.

        :param parallelism: what Ray would like.
        :returns: one task.
        """
        metadata = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None, input_files=None)
        return [ReadTask(partial(_read, self._batches), metadata)]


class RayActors:
    """
    The work on batches in Ray's actors.

    They run on the cluster that this process is connected to, else the one at RAY_ADDRESS, else one started here.

    :param settings: of the work, with a Qdrant server that all machines reach.
    :param count: of actors. Each takes one core, or one GPU with a device of that kind.
    """

    def __init__(self, settings: WorkSettings, count: int) -> None:
        self._settings = settings
        self._count = count

    def map(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """
        Do the work.

        :param batches: can be sent to another process.
        :returns: an iterator over finished batches, as they come.
        :raises RuntimeError: when actors die again and again, or the cluster fails.
        """
        started_here = not ray.is_initialized()
        if started_here:
            self._connect()
        context = DataContext.get_current()
        before = context.target_max_block_size, context.enable_progress_bars
        # A block is handed on when it is this large: with a batch, rather than with 128 MB of them.
        context.target_max_block_size, context.enable_progress_bars = 1, False
        try:
            for block in self._dataset(batches).iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0):
                for value in _values(block):
                    if isinstance(value, Exception):
                        raise value
                    yield value
        except RayError as error:
            reason = " ".join(str(error).split())
            msg = (
                f"Ray failed: {type(error).__name__}: {reason:.500}. What was written stays: mend the cluster, or use "
                "fewer --workers or a smaller --batch-size, and run the command again"
            )
            raise RuntimeError(msg) from error
        finally:
            context.target_max_block_size, context.enable_progress_bars = before
            if started_here:
                ray.shutdown()

    def _connect(self) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        if not os.environ.get("RAY_ADDRESS"):
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
            quiet.update(include_dashboard=False, num_cpus=max(available_cores(), self._count))
        ray.init(**quiet)

    def _dataset(self, batches: Iterable[Batch]) -> Any:
        device = self._settings.model.get("device") or {}
        on_gpu = str(device.get("device", "")).startswith("cuda")
        # No core for the reader: it would keep one from an actor, and Ray from starting at all on two cores. And its
        # other needs keep Ray from fusing it with the actors, of which one would then do everything.
        read = ray.data.read_datasource(CorpusDatasource(batches), override_num_blocks=1, num_cpus=0)
        with warnings.catch_warnings():
            # Ray 2.64 is to do without these two: then a batch that kills every actor would be tried for ever.
            warnings.simplefilter("ignore", DeprecationWarning)
            return read.map_batches(
                BatchActor,
                fn_constructor_args=(self._settings,),
                batch_size=1,
                batch_format="pyarrow",
                compute=ActorPoolStrategy(size=self._count, max_tasks_in_flight_per_actor=2),
                num_cpus=1,
                num_gpus=1 if on_gpu else 0,
                max_restarts=-1,
                max_task_retries=MAX_DEATHS - 1,
            )


def _read(batches: Iterable[Batch]) -> Iterator[pa.Table]:
    try:
        for batch in batches:
            yield _block([batch])
    except Exception as error:
        yield _block([sendable(error)])


def _block(values: Iterable[Batch | Exception]) -> pa.Table:
    dumped: list[bytes] = [pickle.dumps(value) for value in values]
    return pa.table({_COLUMN: pa.array(dumped, pa.large_binary())})


def _values(block: pa.Table) -> list[Batch | Exception]:
    load: Callable[[bytes], Any] = pickle.loads
    return [load(value) for value in block[_COLUMN].to_pylist()]
