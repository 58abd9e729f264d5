"""A circuit opens after failures in a row, and closes with the first success."""

from __future__ import annotations

from guard.state.circuit import Circuit


def test_failures_in_a_row_open_it_and_a_success_closes_it() -> None:
    circuit = Circuit(3)
    for _ in range(2):
        circuit.failed()
    circuit.succeeded()
    for _ in range(2):
        circuit.failed()
    assert circuit.closed
    circuit.failed()
    assert not circuit.closed
    circuit.failed()
    assert not circuit.closed
    circuit.succeeded()
    assert circuit.closed
