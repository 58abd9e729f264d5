"""Everything the guard does not watch: relayed byte for byte, both ways, as it comes."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from guard.errors import UpstreamError
from guard.proto.family import Notice
from guard.proto.registry import family_near
from guard.server.headers import end_to_end, led_home
from guard.server.outlet import break_off
from guard.server.upgrade import is_upgrade, tunnel
from guard.server.upstream import UpstreamPool, as_fault

_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})


async def relay(request: web.BaseRequest, pool: UpstreamPool, request_id: str) -> web.StreamResponse:
    """
    Pass one request to a replica and its answer back.

    Args:
        request: The client's, body unread.
        pool: Replicas.
        request_id: Sent along and back.

    Returns:
        The response, written; 502 or 504 in the form of the path's family when the backend cannot be had.
    """
    if is_upgrade(request):
        try:
            return await tunnel(request, pool, request_id)
        except (TimeoutError, OSError, UpstreamError) as error:
            return _unreachable(error, request.path, request_id)
    try:
        upstream = pool.choose()
    except UpstreamError as error:
        return _unreachable(error, request.path, request_id)
    headers = pool.outgoing.sign(end_to_end(request.headers))
    headers.popall("Host", None)
    headers.popall("Expect", None)  # met already; a backend that does not meet it would be waited for without end
    headers["X-Request-Id"] = request_id
    has_body = request.can_read_body or request.method not in _BODILESS
    upstream.in_flight += 1
    reply: aiohttp.ClientResponse | None = None
    try:
        # No deadline here: an upload, or a batch job that answers late, may take its time, and the
        # client that gives up cancels this handler.
        reply = await pool.session.request(
            request.method,
            URL(upstream.url + request.raw_path, encoded=True),
            headers=headers,
            data=request.content if has_body else None,
            allow_redirects=False,
        )
        if reply.status == HTTPStatus.SWITCHING_PROTOCOLS:
            unasked = UpstreamError("protocol", "the backend changes to a protocol that nobody asked for")
            return _unreachable(unasked, request.path, request_id)
        headers = led_home(end_to_end(reply.headers), upstream.url)
        return await _answer(request, reply, headers, request_id, pool)
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        return _unreachable(error, request.path, request_id)
    finally:
        upstream.in_flight -= 1
        if reply is not None:
            reply.close()


async def _answer(
    request: web.BaseRequest,
    reply: aiohttp.ClientResponse,
    headers: CIMultiDict[str],
    request_id: str,
    pool: UpstreamPool,
) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, reason=reply.reason, headers=headers)
    response.headers["X-Request-Id"] = request_id
    try:
        await response.prepare(request)
    except ConnectionError:
        return response
    try:
        async for data in pool.watchdog.pieces(reply):
            async with asyncio.timeout(pool.unread):
                await response.write(data)
    except (TimeoutError, aiohttp.ClientError, ConnectionError):
        # The head is out: the only honest end is to break the connection off.
        break_off(request, response)
        return response
    await response.write_eof()
    return response


def _unreachable(error: Exception, path: str, request_id: str) -> web.Response:
    fault = as_fault(error)
    status = 504 if fault.kind == "timeout" else 502
    return web.Response(
        status=status,
        body=family_near(path).error_body(Notice(str(fault), status, f"upstream_{fault.kind}")),
        content_type="application/json",
        headers={"X-Request-Id": request_id},
    )
