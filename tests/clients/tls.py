"""Certificates, and clients that trust them. make FOLDER: a certificate for this machine that signs itself, cert.pem
and key.pem. use ADDRESS PORT FOLDER: a server over TLS, by HTTP and by the PostgreSQL wire."""

import datetime
import http.client
import ipaddress
import json
import os
import ssl
import sys
import urllib.request
from pathlib import Path

TOKEN = os.environ.get("READER_TOKEN", "")


def make(folder):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sluice tests")])
    now, day = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(days=1)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    Path(folder).mkdir(parents=True, exist_ok=True)
    Path(folder, "cert.pem").write_bytes(certificate.public_bytes(encoding))
    Path(folder, "key.pem").write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain))


def use(address, port, folder):
    import psycopg

    certificate = str(Path(folder, "cert.pem"))
    trusting = ssl.create_default_context(cafile=certificate)

    def ask(path, context=trusting, body=None, **headers):
        request = urllib.request.Request(address + path, body, {"Authorization": f"Bearer {TOKEN}"} | headers)
        with urllib.request.urlopen(request, timeout=60, context=context) as answer:
            return answer.read()

    order = json.dumps({"id": 1, "shop": "s", "amount": 7}).encode()
    ask("/hooks/orders", body=order, **{"Content-Type": "application/json"})
    assert json.loads(ask("/v1/jobs"))["jobs"][0]["job"] == "hub"
    for what, context, place in [
        ("a stranger's certificate", ssl.create_default_context(), address),
        ("no TLS", None, address.replace("https", "http")),
    ]:
        try:
            urllib.request.urlopen(f"{place}/health/live", timeout=60, context=context)
        except (OSError, http.client.HTTPException):
            continue
        raise AssertionError(f"{what} is let through")

    where = f"host=127.0.0.1 port={port} user=rita dbname=shop connect_timeout=20 password={TOKEN}"
    for mode in ("sslmode=require", f"sslmode=verify-full sslrootcert={certificate}"):
        with psycopg.connect(f"{where} {mode}", autocommit=True) as connection:
            assert connection.pgconn.ssl_in_use, mode
            assert connection.execute("SELECT 1 + 1").fetchone() == (2,)
    try:
        psycopg.connect(f"{where} sslmode=verify-full sslrootcert=system").close()
    except psycopg.OperationalError as error:
        assert "certificate" in str(error), error
    else:
        raise AssertionError("a stranger's certificate is trusted")


{"make": make, "use": use}[sys.argv[1]](*sys.argv[2:])
