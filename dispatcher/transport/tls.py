"""TLS for the lean transport."""

from __future__ import annotations

import ssl


class ClientContext(ssl.SSLContext):
    """Verifies like `ssl.create_default_context` and resumes sessions, which the event loops
    have no parameter for: they make every connection through `wrap_bio`, so it is given there.

    `ca_file` names the authorities to trust instead of those of the system.
    """

    _sessions: dict[str | bytes | None, ssl.SSLSession]

    def __new__(cls, ca_file: str | None = None) -> ClientContext:
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, ca_file: str | None = None) -> None:
        default = ssl.create_default_context(cafile=ca_file)
        self.options = default.options
        self.verify_flags = default.verify_flags
        self.set_alpn_protocols(["http/1.1"])
        if ca_file is None:
            self.load_default_certs()
        else:
            self.load_verify_locations(ca_file)
        self._sessions = {}

    def keep(self, connection: ssl.SSLObject) -> None:
        """Resume the session of this connection with the next one to the same host. TLS 1.3 has
        a session to resume only after the first bytes from the server."""
        session = connection.session
        if session is not None and session.has_ticket:
            self._sessions[connection.server_hostname] = session

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """See `ssl.SSLContext.wrap_bio`."""
        session = session or self._sessions.get(server_hostname)
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
