"""The closed lists of the contract: exit codes, error codes, warning codes. Adding one is a minor schema version."""

from __future__ import annotations

from collections.abc import Mapping

EXIT_CODES: Mapping[str, int] = {
    "success": 0,
    "error": 1,
    "interrupted": 1,
    "usage": 2,
    "unreachable": 3,
    "rejected": 4,
    "lost": 6,
    "timeout": 7,
    "partial": 8,
    "cancelled": 130,
    "detached": 130,
    "internal": 70,
}
EXIT_REPORTER_FAILED = 5

ERROR_CODES: Mapping[str, str] = {
    "usage": "a flag or a value of the command line can't be used",
    "workflow": "the workflow can't be read or can't be used as it is",
    "reporter": "a reporter that was asked for can't be had in that form",
    "refused": "nothing listens there, or the connection was refused",
    "no_answer": "the server took too long to answer",
    "name_unknown": "the host's name can't be resolved",
    "tls": "the TLS handshake failed",
    "auth": "the server, or something before it, wants credentials or forbids the request",
    "not_comfyui": "something answers there, but it isn't ComfyUI",
    "invalid_workflow": "the server refused the workflow as a whole",
    "invalid_input": "the server refused inputs of nodes",
    "missing_node": "the workflow uses a node type that the server doesn't have",
    "missing_model": "the workflow names a file or model that the server doesn't have",
    "server_error": "the server failed while it took the request",
    "node_error": "a node raised an exception",
    "out_of_memory": "a node ran out of memory",
    "interrupted": "somebody else interrupted the prompt",
    "deleted": "the prompt was deleted from the queue before it ran",
    "server_restarted": "the server was restarted and knows the prompt no more",
    "server_gone": "the server stopped answering",
    "prompt_vanished": "the server answers but has the prompt in neither queue nor history",
    "no_history": "the server answers, but its history or queue can't be read",
    "time_limit": "a time limit that was asked for is over, or would be (--max-eta)",
    "outputs_dropped": "the server left out outputs that it found invalid",
    "blocked": "outputs below a blocked node were not made",
    "download_failed": "outputs were made but could not be saved",
    "too_few_outputs": "fewer outputs than expected were made",
    "cancelled": "the user cancelled the prompt",
    "detached": "the user left and the prompt goes on",
    "machine_limit": "the machine gives comfyreport no file, thread or memory any more",
    "internal": "a fault of comfyreport itself",
}

WARNING_CODES: Mapping[str, str] = {
    "stalled": "nothing has been heard for a long time",
    "node_errors": "the server took the prompt but dropped outputs that it found invalid",
    "blocked": "a node was blocked; outputs below it are missing",
    "no_outputs": "the run made no outputs",
    "outputs_left_out": "outputs are not told, nor saved: all of them together are too large",
    "download_failed": "an output could not be saved",
    "answer_lost": "the answer to the submission was lost; whether the server has the prompt is looked for",
    "deaf_socket": "the socket is open but tells nothing of this run",
    "frame_too_large": "a message was too large to be read",
    "malformed_message": "a message could not be understood",
    "slow_reporter": "a reporter takes long; the run goes on without waiting for it",
    "reporter_failed": "a reporter failed and was switched off",
    "record_failed": "the recording that was asked for can't be written on; the run goes on without it",
    "cancel_unconfirmed": "the server did not confirm that the prompt was cancelled",
    "prompt_id_changed": "the server gave the prompt another id than was asked for",
    "timings_unusable": "what earlier runs took can't be read or kept; the run goes on without it",
    "insecure": "the server's certificate is not checked",
    "not_submitted": "parts of the workflow's file are not submitted",
}
