"""Answers a request for a piece of a workload's log.

Only reads; what is asked for cannot leave the logs' folder.
"""

from collections.abc import Callable, Mapping

from hivekeeper.host.state import Folders
from hivekeeper.model.errors import NotFoundError
from hivekeeper.model.ids import WorkloadName, is_name
from hivekeeper.model.program import ProgramStatus
from hivekeeper.ports import Handler
from hivekeeper.supervisor import logs
from hivekeeper.wire import messages
from hivekeeper.wire.messages import LogReply, LogRequest

Programs = Callable[[], Mapping[WorkloadName, ProgramStatus]]


def answer(folders: Folders, programs: Programs) -> Handler:
    """Return what answers log requests for the workloads below `folders`.

    Args:
        folders: Of this host.
        programs: What the keeper holds, by workload: tells which run is going on.
    """

    async def handle(_: str, payload: bytes) -> bytes:
        request = messages.decode(payload, LogRequest)
        return messages.encode(_read(folders, programs().get(request.workload), request))

    return handle


def _read(folders: Folders, program: ProgramStatus | None, request: LogRequest) -> LogReply:
    if not is_name(request.workload):
        raise NotFoundError(f"cannot find a log of {request.workload!r}: it is no name")
    piece = logs.read(
        str(folders.logs(request.workload)),
        live=program.run if program is not None and program.pid is not None else None,
        run=request.run,
        back=request.back,
        offset=request.offset,
        tail=request.tail,
    )
    if piece.run == 0:
        raise NotFoundError(
            f"cannot find that log of {request.workload}: it has not run so often, or too long ago"
        )
    return LogReply(
        run=piece.run, offset=piece.offset, data=piece.data, more=piece.more, ended=piece.ended
    )
