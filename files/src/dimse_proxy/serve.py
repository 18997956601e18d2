"""Listens by HTTP, by HTTPS, or by both, where HTTP sends to HTTPS."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import logging
import os
import socket
import ssl
from pathlib import Path

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from service.http_head import HeadInTime
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from dimse_proxy.app import create_app
from dimse_proxy.config import Config

_LOG = logging.getLogger("dimse_proxy")
_LOOK_SECONDS = 5.0
_SELF_SIGNED_DAYS = 825


class _IncompleteFilter(logging.Filter):
    """Leaves out uvicorn's remark on an answer that was cut: it has a line with its reason already."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "without completing response" not in record.getMessage()


class Certificate:
    """The certificate, and the context that has it: read again when its files change."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raise ValueError where they can't be used."""
        self._certificate, self._key = certificate, key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._seen = self._stamps()
        try:
            self.context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"ssl.certPath {certificate}, ssl.keyPath {key}: {error.strerror or error}") from None

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        try:
            return tuple((path.stat().st_mtime_ns, path.stat().st_ino) for path in (self._certificate, self._key))
        except OSError:
            return ()

    async def watch(self) -> None:
        """Take a changed certificate for all connections from then on, until cancelled. One that can't be used is left."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            stamps = self._stamps()
            if stamps and stamps != self._seen:
                self._seen = stamps
                try:
                    # Tried apart: half of a pair would spoil the context that is in use.
                    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._certificate, self._key)
                    self.context.load_cert_chain(self._certificate, self._key)
                    _LOG.info("certificate %s read again", self._certificate)
                except (OSError, ssl.SSLError) as error:
                    _LOG.error("certificate %s can't be used, the former one stays: %s", self._certificate, error)


def make_self_signed(certificate: Path, key: Path) -> None:
    """Write a certificate of the host's own names, signed by itself, unless there is one that is valid for a month."""
    if certificate.exists() and key.exists():
        known = x509.load_pem_x509_certificate(certificate.read_bytes())
        left = known.not_valid_after_utc - datetime.datetime.now(datetime.timezone.utc)
        if left > datetime.timedelta(days=30):
            return
    private = ec.generate_private_key(ec.SECP256R1())
    host = socket.getfqdn() or "localhost"
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in dict.fromkeys((host, socket.gethostname(), "localhost"))]
    names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=_SELF_SIGNED_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(private, hashes.SHA256())
    )
    content = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))


class _Redirect:
    """Sends everyone to HTTPS."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            url = Request(scope).url
            port = None if self._port == 443 else self._port
            await RedirectResponse(str(url.replace(scheme="https", port=port)), 308)(scope, receive, send)


def _server(app: ASGIApp, context: ssl.SSLContext | None = None, *, has_life: bool) -> uvicorn.Server:
    settings = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on" if has_life else "off",
        timeout_graceful_shutdown=5,
        timeout_keep_alive=30,
        http=HeadInTime,
    )
    settings.load()
    settings.ssl = context
    return uvicorn.Server(settings)


def _listener(config: Config, port: int, name: str) -> socket.socket:
    host = config.webserver_host
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1024)
    except OSError as error:
        raise OSError(f"{name}: {host}:{port}: {error.strerror}") from None


async def serve(config: Config) -> None:
    """Answer until told to stop; raise ValueError or OSError where that can't begin."""
    logging.getLogger("uvicorn.error").addFilter(_IncompleteFilter())
    try:
        config.storage_path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"storagePath {config.storage_path}: {error.strerror}") from None
    plain = _listener(config, config.webserver_port, "webserverPort")
    if not config.ssl.enabled:
        await _server(create_app(config), has_life=True).serve([plain])
        return
    secure = _listener(config, config.ssl.port, "ssl.port")
    pair = Certificate(*_certificate(config))
    app = create_app(config)
    watching = asyncio.create_task(pair.watch())
    servers = {
        _server(app, pair.context, has_life=True): secure,
        _server(_Redirect(config.ssl.port) if config.ssl.redirect_http else app, has_life=False): plain,
    }
    tasks = [asyncio.create_task(server.serve([listener])) for server, listener in servers.items()]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    # One of them was told to stop, and both are meant.
    for server in servers:
        server.should_exit = True
    await asyncio.gather(*tasks)
    watching.cancel()


def _certificate(config: Config) -> tuple[Path, Path]:
    own = config.storage_path / "tls"
    certificate = Path(config.ssl.cert_path or own / "server.crt")
    key = Path(config.ssl.key_path or own / "server.key")
    if config.ssl.generate_self_signed:
        make_self_signed(certificate, key)
    return certificate, key
