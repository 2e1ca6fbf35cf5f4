"""Join a Ray cluster, or start a Ray of this machine alone. Ray is imported here and nowhere before.

with cluster("auto", None) as fleet, using(fleet): run(recipe, out)
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import signal
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sparring.runtime.errors import reason_of

if TYPE_CHECKING:
    from sparring.fleet.cluster import RayFleet

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""no report to Ray's makers; a worker without a GPU of its own keeps CUDA_VISIBLE_DEVICES as it is"""
CONNECT = 10.0
"""seconds in which an address must answer"""


def has_ray() -> bool:
    """Whether the extra is installed."""
    return importlib.util.find_spec("ray") is not None


@contextlib.contextmanager
def cluster(address: str | None, devices: int | None) -> Iterator[RayFleet]:
    """The workers of a running cluster (`auto`: the one this machine belongs to), or of this machine alone (None).

    Raises:
        ValueError: Ray is not installed, nothing answers there, devices are missing, or nodes differ.
    """
    with joined(address, devices):
        from sparring.fleet.cluster import RayFleet

        yield RayFleet(devices)


@contextlib.contextmanager
def joined(address: str | None, devices: int | None = None) -> Iterator[None]:
    """A connection to a cluster, or a Ray of this machine that ends with the block.

    Raises:
        ValueError: Ray is not installed, or nothing answers at the address.
    """
    if not has_ray():
        raise ValueError(
            f"--cluster {address or 'local'}: Ray is not installed. Install it with: pip install 'sparring[ray]'."
        )
    _check_answers(address)
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    import ray  # type: ignore[reportMissingImports]

    handler = signal.getsignal(signal.SIGTERM)
    local = {"num_cpus": max(devices or 1, len(os.sched_getaffinity(0))), "include_dashboard": False}
    try:
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **({} if address else local))
    except ray.exceptions.AuthenticationError as error:
        raise ValueError(
            f"--cluster {address or 'local'}: the cluster asks for its token. Copy the head's ~/.ray/auth_token to "
            "this machine, and set RAY_AUTH_MODE=token on all machines."
        ) from error
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, AssertionError) as error:
        raise ValueError(
            f"--cluster {address or 'local'}: no Ray cluster can be used there ({reason_of(error)}). Start one with "
            "`ray start --head`, add machines with `ray start --address=HEAD:6379`, and give `auto` or HEAD:6379."
        ) from error
    signal.signal(signal.SIGTERM, handler)  # Ray's own would end this process before it says where it stopped
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str | None) -> None:
    """Raise a ValueError where nothing listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if not host or not port.isdigit():  # auto, or ray://HOST:PORT
        return
    try:
        socket.create_connection((host.removeprefix("ray://"), int(port)), timeout=CONNECT).close()
    except OSError as error:
        raise ValueError(
            f"--cluster {address}: nothing answers there ({reason_of(error)}). Start a cluster with `ray start "
            "--head`, and give the address that it prints, or auto on a machine that belongs to it."
        ) from error
