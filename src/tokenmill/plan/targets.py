"""Where discovery may look: only at addresses that were given, and at no more than a stated number of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_network

from tokenmill.errors import InputFaults
from tokenmill.plan.url import Url, canonical, read_url

#: Ports on which servers of language models usually listen: Ollama, vLLM, llama.cpp and LM Studio.
PORTS = (11434, 8000, 8080, 1234)
#: Most addresses that are looked at unless the user says otherwise.
MOST = 256


def targets(given: Iterable[str], ports: Sequence[int] = PORTS, most: int = MOST) -> tuple[Url, ...]:
    """The places that `given` names: HOST, HOST:PORT, a URL, or an address range such as 10.0.0.0/28.

    `ports` are looked at where none is given. Link-local ranges are refused, as clouds keep their secrets there.

    Raises:
        InputFaults: everything that can't be looked at.
    """
    found: dict[Url, None] = {}
    faults: list[str] = []
    for text in given:
        try:
            hosts = _range(text, most) if "/" in text and "://" not in text else None
            urls = (
                [_place(text, ports)]
                if hosts is None
                else [[Url("http", host, port) for port in ports] for host in hosts]
            )
        except ValueError as error:
            faults.append(str(error))
            continue
        found |= dict.fromkeys(url for group in urls for url in group)
    addresses = len({url.host for url in found})
    if addresses > most:
        faults.append(f"these are {addresses} addresses, more than {most}; give fewer, or --most {addresses}")
    if faults:
        raise InputFaults("discover", faults)
    return tuple(found)


def _range(text: str, most: int) -> list[str]:
    try:
        network = ip_network(text, strict=False)
    except ValueError as error:
        raise ValueError(f"{text!r} is no address range ({error}); write such as 10.0.0.0/28") from error
    if network.is_link_local or network.is_multicast:
        raise ValueError(f"{text!r} is a link-local or multicast range, which is not looked at; name single addresses")
    count = network.num_addresses
    if count > most:
        raise ValueError(f"{text!r} holds {count} addresses, more than {most}; give a smaller range, or --most {count}")
    return [canonical(str(address)) for address in network.hosts()]


def _place(text: str, ports: Sequence[int]) -> list[Url]:
    if "://" in text:
        return [read_url(text)]
    bare = text.startswith("[") or text.count(":") < 2
    url = read_url(f"http://{text}" if bare else f"http://[{text}]")
    has_port = bare and text.rpartition("]")[2].count(":") == 1
    return [url] if has_port else [Url(url.scheme, url.host, port) for port in ports]
