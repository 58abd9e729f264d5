"""guard.backend.vllm.host.books: what is offered, what is held, and until when."""

from __future__ import annotations

import pytest

from guard.backend.kv.ids import Key
from guard.backend.kv.integrity import check_integrity
from guard.backend.kv.rules import ALL, Rules, without
from guard.backend.vllm.host.books import HostBooks, Order
from tests.unit.backend.vllm.references import Store

A, AB, ABC, OTHER = Key("a"), Key("ab"), Key("abc"), Key("other")


def made(slots: int = 4, ranks: int = 1, rules: Rules = ALL) -> tuple[Store, HostBooks]:
    store = Store()
    return store, HostBooks(store, 8, slots, ranks=ranks, rules=rules)


def saved(books: HostBooks, block: int, key: Key, parent: Key | None) -> Order:
    order = books.save("r", block, key, parent)
    assert order is not None
    return order


def end(books: HostBooks, *orders: Order) -> None:
    books.over({order.number: 1 for order in orders})
    check_integrity(books.device)
    check_integrity(books.tier.pool)


def test_a_block_is_held_until_its_save_is_over_and_offered_from_then_on() -> None:
    store, books = made()
    order = saved(books, 3, A, None)
    assert (store.held, books.copying(), books.found([A])) == ({3}, (3,), 0)
    end(books, order)
    assert (store.held, books.copying(), books.found([A]), books.saved) == (set(), (), 1, 1)
    end(books, order)
    assert books.saved == 1, "a repeated report changes nothing"


def test_without_leases_the_block_is_given_back_at_once() -> None:
    store, books = made(rules=without("leases"))
    saved(books, 3, A, None)
    assert store.held == set()


def test_a_copy_is_over_when_it_is_over_on_every_rank() -> None:
    store, books = made(ranks=2)
    order = saved(books, 3, A, None)
    books.over({order.number: 1})
    assert (store.held, books.found([A])) == ({3}, 0)
    books.over({order.number: 1})
    assert (store.held, books.found([A])) == (set(), 1)


def test_one_rank_that_fails_is_enough() -> None:
    _, books = made(ranks=2)
    order = saved(books, 3, A, None)
    books.over({order.number: 1}, [order.number])
    books.over({order.number: 1})
    assert (books.found([A]), books.saved) == (0, 0)


def test_what_was_saved_on_top_of_a_failed_save_is_not_offered() -> None:
    _, books = made()
    first, second = saved(books, 3, A, None), saved(books, 4, AB, A)
    end(books, second)
    books.over({first.number: 1}, [first.number])
    assert not books.tier.has(AB), "a withdrawal of the first would not have found it"


def test_a_load_wants_the_generation_that_filled_its_slot() -> None:
    store, books = made(slots=1)
    first = saved(books, 3, A, None)
    end(books, first)
    again = saved(books, 4, OTHER, None)
    end(books, again)
    load = books.load("r", 5, OTHER, None)
    assert (load.slot, load.generation) == (again.slot, again.number)
    assert store.held == {5}
    end(books, load)
    assert (store.held, books.loaded) == (set(), 1)


def test_a_slot_that_a_load_reads_is_not_filled_anew() -> None:
    _, books = made(slots=1)
    end(books, saved(books, 3, A, None))
    load = books.load("r", 5, A, None)
    assert books.save("r", 4, OTHER, None) is None
    end(books, load)
    assert books.save("r", 4, OTHER, None) is not None


def test_the_end_of_a_prefix_is_evicted_before_its_head() -> None:
    _, books = made(slots=3)
    end(books, saved(books, 1, A, None), saved(books, 2, AB, A), saved(books, 3, ABC, AB))
    saved(books, 4, OTHER, None)
    assert books.found([A, AB, ABC]) == 2


def test_content_is_saved_once_and_not_without_what_comes_before_it() -> None:
    _, books = made()
    first = saved(books, 3, A, None)
    assert books.save("s", 4, A, None) is None
    end(books, first)
    assert books.save("s", 4, A, None) is None
    assert books.save("s", 4, ABC, AB) is None


def test_withdrawn_content_is_not_loaded() -> None:
    store, books = made()
    orders = saved(books, 3, A, None), saved(books, 4, AB, A), saved(books, 5, ABC, AB)
    end(books, orders[0])
    books.withdraw([A])
    assert books.save("s", 6, ABC, AB) is None
    end(books, *orders)
    assert (books.found([A]), store.held) == (0, set())
    assert not books.tier.has(ABC)
    with pytest.raises(RuntimeError, match="between its look-up and its load"):
        books.load("r", 6, A, None)
    assert store.held == set()


def test_clearing_takes_all_of_it() -> None:
    _, books = made()
    end(books, saved(books, 3, A, None))
    under_way = saved(books, 4, OTHER, None)
    books.clear()
    end(books, under_way)
    assert (books.found([A]), books.found([OTHER])) == (0, 0)


def test_what_is_saved_on_top_of_a_load_that_failed_does_not_enter() -> None:
    _, books = made()
    end(books, saved(books, 1, A, None), saved(books, 2, OTHER, None))
    loads = [books.load("r", 3, A, None), books.load("s", 4, OTHER, None)]
    on_top, beside = saved(books, 5, AB, A), saved(books, 6, Key("other b"), OTHER)
    books.not_loaded(())
    books.not_loaded({3, 7})
    end(books, *loads, on_top, beside)
    assert (books.found([A]), books.found([AB])) == (0, 0)
    assert books.found([OTHER, Key("other b")]) == 2
    assert books.copying() == ()
