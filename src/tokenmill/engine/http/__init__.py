"""Engines `ollama` and `openai`: a model behind a server, asked over one asynchronous HTTP client.

`lines` cuts a stream into events, `ollama` and `openai` turn events into text (both pure), `classify` names what went
wrong, `client` is the only file that touches a socket, and `engine` puts them together. A node's key goes to the
node's origin and nowhere else; every text that leaves this package has passed `Key.scrub`.
"""
