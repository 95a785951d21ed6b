"""How talking to a conductor fails, cut by what the caller must know: was the request sent?

A call that was sent is never sent again by us: it may have written an entry. So `NotSentError` may
be tried again whatever was asked; after `AnswerLostError` one looks at what is, and then decides.
"""

from hivekeeper.model.errors import PermanentError, TransientError


class NotSentError(TransientError):
    """Not a byte of the request left us: there is no connection, or no place on it in time."""


class AnswerLostError(TransientError):
    """The request was sent, perhaps carried out, and no answer came that can be read."""


class ConductorError(PermanentError):
    """The conductor answered that it could not or would not.

    Args:
        request: What was asked (`install_app`).
        kind: The conductor's own word: `internal_error`, `zome_call_unauthorized`, …
        text: What it says, as it says it.
    """

    def __init__(self, request: str, kind: str, text: str) -> None:
        super().__init__(f"cannot {request.replace('_', ' ')}: {text} ({kind})")
        self.request = request
        self.kind = kind
        self.text = text

    def is_about(self, word: str) -> bool:
        """Return whether it is the conductor's error `word` (`AppNotInstalled`, `AddrInUse`)."""
        return word in self.text
