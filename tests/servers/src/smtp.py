"""A mail server. Arguments: the port, the folder of its files, how it encrypts (none, starttls or implicit), and whether
it requires a login (yes or no).

It writes each mail to a file in `mails`: the sender on the first line, the receivers on the second one, then the mail.
It refuses mails to `refused@…` for good, and mails to `busy@…` for now.
"""

import asyncio
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

USER, PASSWORD = b"ecom", b"hunter2@smtp"
port, folder, tls, login = sys.argv[1:]
mails = os.path.join(folder, "mails")
os.makedirs(mails, exist_ok=True)


class Handler:
    count = 0

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("refused@"):
            return "550 5.1.1 there is no such user"
        if address.startswith("busy@"):
            return "451 4.3.0 try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        Handler.count += 1
        path = os.path.join(mails, f"{Handler.count}.eml")
        with open(path + ".partial", "wb") as file:
            file.write(f"{envelope.mail_from}\n{' '.join(envelope.rcpt_tos)}\n".encode())
            file.write(envelope.original_content)
        os.rename(path + ".partial", path)
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    return AuthResult(success=(data.login, data.password) == (USER, PASSWORD), handled=False)


def server():
    return SMTP(
        Handler(),
        hostname="127.0.0.1",
        enable_SMTPUTF8=True,
        tls_context=context if tls == "starttls" else None,
        require_starttls=tls == "starttls",
        auth_required=login == "yes",
        # With TLS from the beginning, the server does not know that it is encrypted.
        auth_require_tls=tls == "starttls",
        authenticator=authenticate,
    )


async def main():
    listener = await asyncio.get_running_loop().create_server(
        server, "127.0.0.1", int(port), ssl=context if tls == "implicit" else None
    )
    await listener.serve_forever()


context = None
if tls != "none":
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(os.path.join(folder, "server.pem"), os.path.join(folder, "server.key"))
asyncio.run(main())
