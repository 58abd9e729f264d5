"""guard.backend.vllm.race_free.connector around vLLM's own connectors, with vLLM's own ways between their two sides."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from vllm.distributed.kv_transfer.kv_connector.utils import KVOutputAggregator
from vllm.distributed.kv_transfer.kv_connector.v1.offloading.common import OffloadingWorkerMetadata
from vllm.distributed.kv_transfer.kv_connector.v1.offloading.scheduler import OffloadingConnectorScheduler
from vllm.distributed.kv_transfer.kv_connector.v1.offloading_connector import OffloadingConnector
from vllm.distributed.kv_transfer.kv_connector.v1.simple_cpu_offload_connector import SimpleCPUOffloadConnector
from vllm.v1.outputs import EMPTY_MODEL_RUNNER_OUTPUT, KVConnectorOutput, ModelRunnerOutput

from guard.backend.vllm.race_free.connector import wrap
from tests.vllm.backend.vllm.race_free.idle import IdleConnector

CONFIG = SimpleNamespace(
    kv_transfer_config=SimpleNamespace(kv_connector_extra_config={}),
    parallel_config=SimpleNamespace(decode_context_parallel_size=1, prefill_context_parallel_size=1),
)
POOL = SimpleNamespace(num_gpu_blocks=4, blocks=[])


class Reports(IdleConnector):
    """Has its two sides made by hand: the worker's reports, and the scheduler of vLLM's offloading connector."""

    def __init__(self, *_: Any) -> None:
        self._vllm_config = CONFIG
        self._report: Any = None
        self.scheduler: Any = OffloadingConnectorScheduler.__new__(OffloadingConnectorScheduler)
        self.scheduler._jobs = {}
        self.scheduler._stale_job_threshold = 100

    def bind_gpu_block_pool(self, gpu_block_pool: Any) -> None:
        pass

    def build_connector_worker_meta(self) -> Any:
        return self._report

    def update_connector_output(self, connector_output: Any) -> None:
        self.scheduler.update_connector_output(connector_output)
        self.heard = connector_output.kv_connector_worker_meta


def rank(*jobs: int) -> ModelRunnerOutput:
    """What a rank's wrapped connector sends after a step in which these jobs have ended."""
    connector = wrap(Reports)(CONFIG, None)
    connector._report = OffloadingWorkerMetadata(dict.fromkeys(jobs, 1)) if jobs else None
    output = ModelRunnerOutput.with_kv_conn_output_only(
        KVConnectorOutput(kv_connector_worker_meta=connector.build_connector_worker_meta())
    )
    assert output is not EMPTY_MODEL_RUNNER_OUTPUT, "the scheduler's side hears of each step"
    return output


@pytest.mark.parametrize(
    ("jobs", "heard"),
    [
        ([(), ()], None),
        ([(1,), ()], {1: 1}),
        ([(), (1,)], {1: 1}),
        ([(1,), (1, 2)], {1: 2, 2: 1}),
        ([()], None),
        ([(7,)], {7: 1}),
    ],
)
def test_a_connector_hears_of_its_workers_what_it_would_alone(
    jobs: list[tuple[int, ...]], heard: dict[int, int] | None
) -> None:
    outputs = [rank(*each) for each in jobs]
    together = KVOutputAggregator(len(outputs)).aggregate(outputs).kv_connector_output
    scheduling = wrap(Reports)(CONFIG, None)
    scheduling.bind_gpu_block_pool(POOL)
    scheduling.update_connector_output(together)
    told = scheduling.heard
    assert (None if told is None else told.completed_jobs) == heard


@pytest.mark.parametrize("kind", [OffloadingConnector, SimpleCPUOffloadConnector])
def test_where_a_connector_has_metrics_of_its_own_the_books_have_none(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its classes would be given the books' numbers, and fail on them."""
    assert kind.build_kv_connector_stats() is not None
    monkeypatch.setattr(kind, "get_kv_connector_stats", lambda self: None)
    connector = wrap(kind).__new__(wrap(kind))
    connector._vllm_config = CONFIG
    monkeypatch.setattr(kind, "bind_gpu_block_pool", lambda self, pool: None)
    connector.bind_gpu_block_pool(POOL)
    assert connector.get_kv_connector_stats() is None


def test_where_it_has_none_the_books_numbers_are_shown() -> None:
    connector = wrap(Reports)(CONFIG, None)
    connector.bind_gpu_block_pool(POOL)
    assert connector.get_kv_connector_stats().data["leases_receive"] == 0
