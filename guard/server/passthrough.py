"""Everything the guard does not watch: relayed byte for byte, both ways, as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from guard.core.failure import of_fault
from guard.errors import UpstreamError
from guard.proto.family import Notice
from guard.proto.registry import family_near
from guard.server.client_abort import Aim
from guard.server.headers import end_to_end, led_home
from guard.server.outlet import break_off
from guard.server.upgrade import is_upgrade, tunnel
from guard.server.upstream import UpstreamPool, as_fault

_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})


async def relay(
    request: web.BaseRequest,
    said: Mapping[str, str],
    pool: UpstreamPool,
    request_id: str,
    retry_after: int,
    aim: Aim | None = None,
) -> web.StreamResponse:
    """
    Pass one request to a replica and its answer back.

    Args:
        request: The client's, body unread but for an aim.
        said: Its headers, as far as they may go on.
        pool: Replicas.
        request_id: Sent along and back.
        retry_after: When the client is to come again, where there is no replica to ask. Unit: seconds.
        aim: To which replica it goes, and the body in place of the client's.

    Returns:
        The response, written; in the form of the path's family 502 or 504 when the backend cannot be had, 503 when
        there is none to ask.
    """
    try:
        if is_upgrade(request):
            return await tunnel(request, pool, request_id)
        return await _relay(request, end_to_end(said), pool, request_id, aim)
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError, UpstreamError) as error:
        failure = of_fault(as_fault(error), retry_after)
    answer = web.Response(
        status=failure.status,
        body=family_near(request.path).error_body(Notice(failure.message, failure.status, failure.code)),
        content_type="application/json",
        headers={"X-Request-Id": request_id},
    )
    if failure.retry_after is not None:
        answer.headers["Retry-After"] = str(failure.retry_after)
    return answer


async def _relay(
    request: web.BaseRequest, headers: CIMultiDict[str], pool: UpstreamPool, request_id: str, aim: Aim | None
) -> web.StreamResponse:
    upstream = (aim.upstream if aim is not None else None) or pool.choose()
    pool.outgoing.sign(headers)
    headers.popall("Host", None)
    headers.popall("Expect", None)  # met already; a backend that does not meet it would be waited for without end
    headers["X-Request-Id"] = request_id
    has_body = request.can_read_body or request.method not in _BODILESS
    data = request.content if has_body else None
    if aim is not None:
        headers.popall("Content-Length", None)
    upstream.in_flight += 1
    reply: aiohttp.ClientResponse | None = None
    try:
        # No deadline here: an upload, or a batch job that answers late, may take its time, and the
        # client that gives up cancels this handler.
        try:
            reply = await pool.session.request(
                request.method,
                URL(upstream.url + request.raw_path, encoded=True),
                headers=headers,
                data=data if aim is None else aim.body,
                allow_redirects=False,
            )
        except aiohttp.ClientConnectorError as error:
            # The next request goes to another one. All else may be the client's doing.
            pool.failed(upstream, as_fault(error))
            raise
        if reply.status == HTTPStatus.SWITCHING_PROTOCOLS:
            raise UpstreamError("protocol", "the backend changes to a protocol that nobody asked for")
        headers = led_home(end_to_end(reply.headers), upstream.url)
        return await _answer(request, reply, headers, request_id, pool)
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
