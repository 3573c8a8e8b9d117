"""The way out: no spelling, redirect or second answer of a name server leads a tool to where it may not go."""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from schemas.types.tool import Http as Place
from streams.tools.egress import Guard, public
from streams.tools.http import Http
from streams.tools.running import Result
from streams.tools.secrets import Secrets
from tests.streams.tools.making import OPEN, call, definition, ways
from tests.streams.tools.server import says, serving


class Names:
    """A name server whose answers are known: the next one of each name, and the last one for ever."""

    def __init__(self, **answers: list[str]) -> None:
        self.answers, self.asked = answers, 0

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        answers = self.answers[host.partition(".")[0]]
        return [answers.pop(0) if len(answers) > 1 else answers[0]]


def http(url: str, guard: Guard, *hosts: str, headers: dict[str, str] | None = None) -> Http:
    place = Place(method="GET", url=url, headers=headers or {})
    return Http(definition(http=place, allowed_hosts=hosts), place, ways(guard, secrets=Secrets(None, {"SOMA_SECRET_KEY": "hunter2"})))


PRIVATE = ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.100.100.200", "0.1.2.3"]
SPECIAL = ["224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.0.8", "192.88.99.1", "198.18.0.1", "168.63.129.16"]
PRIVATE_6 = ["::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1", "2001:db8::1", "3fff::1", "100::1", "5f00::1"]
CARRIED = ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1"]
TUNNELS = ["2002:7f00:1::", "2002:101:101::", "2001::1"]
OUTSIDE = ["93.184.215.14", "1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"]
LOOPBACK = ["localhost", "127.0.0.1", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "127.1", "0", "[::1]", "[::ffff:127.0.0.1]"]


@pytest.mark.parametrize("address", [*PRIVATE, *SPECIAL, *PRIVATE_6, *CARRIED, *TUNNELS])
def test_an_address_that_is_not_public_in_any_form(address: str) -> None:
    assert not public(ip_address(address))


@pytest.mark.parametrize("address", OUTSIDE)
def test_a_public_address(address: str) -> None:
    assert public(ip_address(address))


@pytest.mark.parametrize("host", LOOPBACK)
async def test_no_spelling_of_loopback_is_reached(host: str) -> None:
    async with serving({"/": says("inside")}) as server:
        result = await http(server.url("/", host), Guard()).run(call())

    assert (result.outcome, result.retry, result.fault) == ("error", False, False)
    assert b"SOMA_TOOL_PRIVATE_HOSTS" in result.content
    assert server.requests == []


@pytest.mark.parametrize("allowed", ["127.0.0.1", "127.0.0.0/8", "LOCALHOST"])
async def test_what_the_setting_lists_is_reached(allowed: str) -> None:
    async with serving({"/": says("inside")}) as server:
        guard = Guard([allowed], resolve=Names(localhost=["127.0.0.1"]))

        assert await http(server.url("/", "localhost"), guard).run(call()) == Result("ok", b"inside")


async def test_one_bad_address_among_good_ones_is_enough() -> None:
    async def mixed(host: str, port: int) -> list[str]:
        return ["127.0.0.1", "10.0.0.1"]

    async with serving({"/": says("inside")}) as server:
        result = await http(server.url("/", "mixed.test"), Guard(["127.0.0.1"], resolve=mixed)).run(call())

    assert b"10.0.0.1" in result.content
    assert server.requests == []


async def test_a_name_that_changes_its_address_is_checked_each_time_and_connected_to_where_it_was_checked() -> None:
    # given a name that is first at an address that is allowed, and at once afterwards at another one
    async with serving({"/": says("outside")}, host="127.0.0.2") as outside, serving({"/": says("inside")}, port=outside.port) as inside:
        names = Names(rebound=["127.0.0.2", "127.0.0.1"])
        tool = http(outside.url("/", "rebound.test"), Guard(["127.0.0.2"], resolve=names))

        # when
        first, asked, second = await tool.run(call()), names.asked, await tool.run(call())

    # then
    assert (first, asked) == (Result("ok", b"outside"), 1)
    assert second.outcome == "error"
    assert inside.requests == []


async def test_a_redirect_to_loopback_is_not_followed() -> None:
    async with serving({"/": says("inside")}) as inside, serving({}, host="127.0.0.2") as outside:
        outside.answers["/"] = says("", "302 Found", location=inside.url("/", "inside.test"))
        guard = Guard(["127.0.0.2"], resolve=Names(outside=["127.0.0.2"], inside=["127.0.0.1"]))
        result = await http(outside.url("/", "outside.test"), guard, "outside.test", "inside.test").run(call())

    assert b"not a public address" in result.content
    assert inside.requests == []


@pytest.mark.parametrize("location", ["http://elsewhere.test/", "ftp://127.0.0.1/", "file:///etc/passwd", "http://0x7f000001/", "http://["])
async def test_a_redirect_to_a_host_that_is_not_allowed_is_not_followed(location: str) -> None:
    async with serving({"/": says("", "302 Found", location=location)}) as server:
        result = await http(server.url("/"), OPEN).run(call())

    assert result.outcome == "error"
    assert len(server.requests) == 1


async def test_a_redirect_on_the_same_server_keeps_the_headers_of_the_definition() -> None:
    async with serving({"/": says("", "307 Moved", location="/there"), "/there": says("here")}) as server:
        result = await http(server.url("/"), OPEN, headers={"X-Key": "${secret:KEY}"}).run(call())

    assert result == Result("ok", b"here")
    assert [request.headers["x-key"] for request in server.requests] == ["hunter2", "hunter2"]


async def test_a_redirect_to_another_host_goes_without_them() -> None:
    async with (
        serving({"/": says("there")}) as other,
        serving({"/": says("", "302 Found", location=other.url("/", "other.test"))}) as server,
    ):
        guard = Guard(["127.0.0.1"], resolve=Names(server=["127.0.0.1"], other=["127.0.0.1"]))
        headers = {"X-Key": "${secret:KEY}", "Authorization": "${secret:KEY}"}
        tool = http(server.url("/", "server.test"), guard, "server.test", "other.test", headers=headers)

        assert await tool.run(call()) == Result("ok", b"there")

    assert not {"x-key", "authorization"} & other.requests[0].headers.keys()


async def test_redirects_in_a_circle_end() -> None:
    async with serving({"/": says("", "302 Found", location="/")}) as server:
        result = await http(server.url("/"), OPEN).run(call())

    assert result == Result("error", b"more than 5 redirects")
    assert len(server.requests) == 6


async def test_tls_is_spoken_with_the_name_though_the_connection_goes_to_an_address(tmp_path: Path) -> None:
    # given
    certificate, key = _certificate(tmp_path, "letters.test")
    serve = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serve.load_cert_chain(certificate, key)
    trust = ssl.create_default_context(cafile=str(certificate))
    async with serving({"/": says("sealed")}, tls=serve) as server:
        guard = Guard(["127.0.0.1"], resolve=Names(letters=["127.0.0.1"], forged=["127.0.0.1"]), tls=trust)

        # when
        good = await http(f"https://letters.test:{server.port}/", guard).run(call())
        bad = await http(f"https://forged.test:{server.port}/", guard).run(call())

    # then
    assert good == Result("ok", b"sealed")
    assert (bad.outcome, bad.fault) == ("error", True)
    assert server.requests[0].headers["host"] == f"letters.test:{server.port}"


def _certificate(directory: Path, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        subject, subject, key.public_key(), x509.random_serial_number(), now - timedelta(1), now + timedelta(1)
    )
    signed = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False).sign(key, hashes.SHA256())
    (certificate := directory / "certificate.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    pem, form, bare = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (private := directory / "key.pem").write_bytes(key.private_bytes(pem, form, bare))
    return certificate, private
