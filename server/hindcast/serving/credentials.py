"""What a server that speaks TLS shows its callers, and asks of them."""

from pathlib import Path

import grpc

from hindcast.settings import TlsFiles


def credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    """Those of the files as they are now; with a client CA, callers must show a certificate that it signed."""
    return grpc.ssl_server_credentials(
        [(Path(tls.key).read_bytes(), Path(tls.certificate).read_bytes())],
        root_certificates=Path(tls.client_ca).read_bytes() if tls.client_ca else None,
        require_client_auth=tls.client_ca is not None,
    )
