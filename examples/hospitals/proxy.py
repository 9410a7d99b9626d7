"""What sites see of the SuperLink: its fleet interface, and nothing else.

Flower has one port for everything: for sites (``/v1/fleet/``), for starting runs, and for those
runs' server apps. Whoever reaches the whole port can push code to every site, so sites get this
proxy, and the port itself stays closed to them. On real machines use a web server for it; the
deployment page has the few lines that nginx needs.
"""

from __future__ import annotations

import argparse
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_FLEET = "/v1/fleet/{call:path}"
_OF_ONE_HOP = {"connection", "host", "keep-alive", "transfer-encoding", "content-length", "upgrade"}


def make_proxy(superlink: str, ca: str) -> Starlette:
    """A web application that passes fleet calls on; every other path is unknown to it."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        trusted = ssl.create_default_context(cafile=ca)
        async with httpx.AsyncClient(
            base_url=f"https://{superlink}", verify=trusted, timeout=None, trust_env=False
        ) as app.state.client:
            yield

    async def fleet(request: Request) -> Response:
        if ".." in request.url.path:
            return Response(status_code=404)
        try:
            answer = await request.app.state.client.request(
                request.method,
                request.url.path,
                params=request.query_params,
                headers=_passed_on(request.headers),
                content=await request.body(),
            )
        except httpx.TransportError:  # SuperNodes try again after 502, but give up after 500
            return Response(status_code=502)
        return Response(answer.content, answer.status_code, _passed_on(answer.headers))

    return Starlette(routes=[Route(_FLEET, fleet, methods=["POST"])], lifespan=lifespan)


def _passed_on(headers: httpx.Headers) -> dict[str, str]:
    # The client has undone any compression of the body.
    skipped = _OF_ONE_HOP | {"content-encoding", "accept-encoding"}
    return {name: value for name, value in headers.items() if name.lower() not in skipped}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--superlink", required=True, help="address of the SuperLink")
    parser.add_argument("--ca", required=True, help="certificate that the SuperLink's is signed by")
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--key", required=True)
    args = parser.parse_args()
    uvicorn.run(
        make_proxy(args.superlink, args.ca),
        host="127.0.0.1",
        port=args.port,
        ssl_certfile=args.certificate,
        ssl_keyfile=args.key,
        log_level="warning",
    )
