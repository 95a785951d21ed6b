"""A piece of a workload's log, fetched from its host, as text. Keeps nothing."""

import codecs

from hivekeeper.model import limits
from hivekeeper.model.allocation import Allocation
from hivekeeper.ports import Bus
from hivekeeper.wire import messages, subjects
from hivekeeper.wire.api import LogText
from hivekeeper.wire.messages import LogReply, LogRequest


async def read(bus: Bus, place: Allocation, request: LogRequest) -> LogText:
    """Return what the host of `place` has of the log.

    Raises:
        NotFoundError: There is no such run.
        TransientError: The host does not answer.
    """
    answer = await bus.request(
        subjects.logs(place.host), messages.encode(request), timeout_s=limits.REQUEST_TIMEOUT_S
    )
    reply = messages.decode(answer, LogReply)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(reply.data, final=reply.ended and not reply.more)
    unfinished = len(decoder.getstate()[0])  # the beginning of a character that goes on
    return LogText(
        run=reply.run,
        offset=reply.offset - unfinished,
        text=text,
        more=reply.more,
        ended=reply.ended,
    )
