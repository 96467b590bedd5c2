# SPDX-License-Identifier: Apache-2.0
"""exit_codes: what every exit status of `pvc` means, in one table that the help, the docs and the tests share.

The statuses of errors come from `pvc_core.errors.MEANINGS`; only what no error says is added here.
"""

from __future__ import annotations

from pvc_core.errors import MEANINGS

DONE = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 4
REFUSED = 5
NO_CANDIDATE = 6
UNAVAILABLE = 7
DENIED = 8
VMS_STAYED = 10
NOT_SURVIVABLE = 11
SIMULATION_FAILED = 12
INTERRUPTED = 130
READER_GONE = 141

EXIT_CODES: dict[int, str] = {
    DONE: "done; or accepted, and the answer says what to watch",
    FAILED: "the operation, the hypervisor, a plugin or PVC failed; or you said no",
    USAGE: "the command line or the input is not acceptable",
    NOT_FOUND: "there is no such VM, node, token, plugin or connection",
    REFUSED: "refused: not in this state, exists already, or changed meanwhile",
    NO_CANDIDATE: "no node can take the VM",
    UNAVAILABLE: "the API or the cluster's store cannot be reached",
    DENIED: "no valid token, or its role does not allow this",
    9: "the wait ran out; the operation goes on",
    VMS_STAYED: "VMs stayed where they were, or would by the plan; the rest is done",
    NOT_SURVIVABLE: "a VM would not come back if its node were lost",
    SIMULATION_FAILED: "a simulation violated an invariant, or did not come out as expected",
    INTERRUPTED: "interrupted by Ctrl-C; an accepted operation goes on",
    READER_GONE: "whoever read the output went away, as in `| head`",
}

_BY_PROBLEM_CODE = {meaning.code: meaning.exit_code for meaning in MEANINGS.values()}
_BY_HTTP_STATUS = {
    400: USAGE,
    401: DENIED,
    403: DENIED,
    404: NOT_FOUND,
    409: REFUSED,
    412: REFUSED,
    413: USAGE,
    422: USAGE,
    502: UNAVAILABLE,
    503: UNAVAILABLE,
    504: UNAVAILABLE,
}


def exit_code_of_problem(code: str, http_status: int) -> int:
    """The exit status for an API's error: by its stable code, or by HTTP status when the code is unknown here."""
    return _BY_PROBLEM_CODE.get(code, _BY_HTTP_STATUS.get(http_status, FAILED))


def epilogue() -> str:
    r"""The table as the last paragraph of `pvc --help`; the leading \b keeps click from refilling it."""
    lines = [f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items()]
    return "\n".join(["\b", "Exit status:", *lines])
