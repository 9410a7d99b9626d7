"""The example's proxy tells sites to try again while the SuperLink is away."""

import asyncio
import socket
import sys
from pathlib import Path

import pytest

for package in ("starlette", "uvicorn", "cryptography"):
    pytest.importorskip(package)
httpx = pytest.importorskip("httpx")

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "hospitals"


@pytest.fixture
def example(monkeypatch):
    if not EXAMPLE.exists():
        pytest.skip("the examples are not beside the tests")
    monkeypatch.syspath_prepend(str(EXAMPLE))
    yield
    for name in ("proxy", "certificates"):
        sys.modules.pop(name, None)


def test_a_superlink_that_is_away_is_a_bad_gateway(example, tmp_path):
    """502 is what Flower's sites retry; after 500 they would never call again."""
    import certificates
    import proxy

    async def statuses(superlink):
        app = proxy.make_proxy(superlink, str(tmp_path / "ca.crt"))
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://proxy") as client,
        ):
            paths = ("/v1/fleet/pull-messages", "/v1/control/start-run")
            return [(await client.post(path)).status_code for path in paths]

    certificates.make_authority(tmp_path, "ca")
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        found = asyncio.run(statuses(f"127.0.0.1:{taken.getsockname()[1]}"))
    assert found == [502, 404]
