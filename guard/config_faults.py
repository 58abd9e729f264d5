"""All that is wrong with a configuration, in one go."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from guard.config import Config, Option, put_together, unfit, with_upstreams
from guard.errors import ConfigError
from guard.yamldoc import to_struct
from guard.yamlfaults import Faults


def find_faults(
    path: Path | None,
    environ: Mapping[str, str],
    options: Iterable[Option] = (),
    *,
    own_upstream: bool = False,
) -> tuple[Config | None, list[ConfigError]]:
    """
    As `load`, for all that is wrong with a configuration.

    Returns:
        What is right of it, the rest as by default, if anything can be made of it; and the faults.
    """
    faults = Faults()
    try:
        document = put_together(path, environ, options, faults.found)
    except ConfigError as error:
        return None, [*faults.found, error]
    config = faults.look(lambda: to_struct(with_upstreams(document, path), Config), lambda _: document)
    if config is not None:
        rest = unfit(config, document, path, own_upstream=own_upstream)
        faults.found += [one for one in rest if not any(map(faults.left_out, _sections(one)))]
    return config, faults.in_order


def _sections(error: ConfigError) -> set[str]:
    """The sections that a fault is about: its own, and those that its words name."""
    sections = {field.encode_name for field in msgspec.structs.fields(Config)}
    own = re.split(r"[.\[]", error.where, maxsplit=1)[0]
    return {own or "upstreams", *(name for name in sections if f"{name}." in error.message)}
