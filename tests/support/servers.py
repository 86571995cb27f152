"""Servers and clients for tests/operations/run and tests/upgrade/run.

All servers listen on loopback only, and all of their files are in the folder `work` of the run, which removes it.
"""

import asyncio
import contextlib
import http.client
import json
import os
import pathlib
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid

ADMIN = "ecom_" + "a" * 40
# Longer than the start of any of the servers, in seconds.
START_LIMIT = 180
# More than ECOM_SHUTDOWN_TIMEOUT (30 s) and the end of the background work, in seconds.
STOP_LIMIT = 90
# Seconds after which a client gives up a request. The time limit of the server is 30 s.
CLIENT_TIMEOUT = 40
# Where test-servers keeps the packages of search servers.
CACHES = [pathlib.Path("/var/cache/ecom-test-servers"), pathlib.Path.home() / ".cache/ecom-test-servers"]


def program(name, package):
    """Returns the path of a program. The run ends if it is missing."""
    folders = [os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]
    folders += sorted(map(str, pathlib.Path("/usr/lib/postgresql").glob("*/bin")))
    return shutil.which(name, path=":".join(folders)) or sys.exit(f"{name} is missing: install {package}")


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def wait_for(what, condition, limit=START_LIMIT):
    """Waits until `condition` returns something true, and returns it. The run ends if that takes too long."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.2)
    sys.exit(f"{what}: not within {limit} s")


def answers(port, path):
    """Returns the status and the text of GET `path`, or None if there is no answer."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()
    return None


class Daemon:
    """A server that this run starts, kills, stops (SIGSTOP) and continues, with all of its processes."""

    def __init__(self, work, name, command, port, user=None, environment=None, check=None):
        self.name, self.command, self.port, self.environment, self.check = name, command, port, environment, check
        self.user = user if os.geteuid() == 0 else None
        self.folder = work / name
        self.folder.mkdir(exist_ok=True)
        if self.user:
            os.chown(self.folder, pwd.getpwnam(self.user).pw_uid, pwd.getpwnam(self.user).pw_gid)
        self.process = None

    def run(self, *command):
        """Runs a program as the user of the server, and waits for its end."""
        done = subprocess.run(command, **self.options(subprocess.PIPE), text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))}:\n{done.stdout}")

    def options(self, output):
        owner = {"user": self.user, "group": pwd.getpwnam(self.user).pw_gid, "extra_groups": []} if self.user else {}
        environment = os.environ | {"TMPDIR": str(self.folder)} | (self.environment or {})
        return owner | {"cwd": self.folder, "env": environment, "stdin": subprocess.DEVNULL, "stdout": output,
                        "stderr": subprocess.STDOUT}

    def start(self):
        """Starts the server, and waits until it accepts connections and `check`, a command, succeeds."""
        with open(self.folder / "log", "a") as log:
            self.process = subprocess.Popen(self.command, **self.options(log), start_new_session=True)
        wait_for(f"the start of {self.name}", self.accepts)

    def accepts(self):
        if self.process.poll() is not None:
            sys.exit(f"{self.name} has ended:\n{(self.folder / 'log').read_text()[-4_000:]}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return not self.check or subprocess.run(self.check, capture_output=True).returncode == 0
        return False

    def processes(self):
        """Returns the ids of the server and of all processes that descend from it."""
        parents = {}
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                # The name of the program, in parentheses, can contain spaces.
                parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        found = [self.process.pid]
        for one in found:
            found += [child for child, parent in parents.items() if parent == one]
        return found

    def signal(self, number):
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def pause(self):
        self.signal(signal.SIGSTOP)

    def resume(self):
        self.signal(signal.SIGCONT)

    def kill(self):
        """Kills all processes of the server (SIGKILL), also paused ones."""
        if self.process and self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.process.wait()


def postgres(work):
    """Returns a PostgreSQL with an empty database, which is running."""
    [port] = free_ports(1)
    command = [program("postgres", "postgresql"), "-D", "data", "-p", str(port), "-k", "", "-c",
               "listen_addresses=127.0.0.1", "-c", "max_connections=200"]
    # It accepts connections before it answers them.
    check = [program("pg_isready", "postgresql-client"), "-h", "127.0.0.1", "-p", str(port)]
    daemon = Daemon(work, "postgres", command, port, user="postgres", check=check)
    daemon.run(program("initdb", "postgresql"), "-U", "ecom", "-A", "trust", "-E", "UTF8", "--locale=C", "-D", "data")
    daemon.start()
    return daemon


def mariadb(work):
    """Returns a MariaDB with an empty database, which is running."""
    [port] = free_ports(1)
    folder = work / "mariadb"
    command = [program("mariadbd", "mariadb-server"), "--no-defaults", f"--datadir={folder}/data", f"--port={port}",
               "--bind-address=127.0.0.1", "--skip-name-resolve", f"--socket={folder}/socket",
               f"--pid-file={folder}/pid", f"--init-file={folder}/users.sql"]
    daemon = Daemon(work, "mariadb", command, port, user="mysql")
    (folder / "users.sql").write_text("CREATE DATABASE IF NOT EXISTS ecom;\n"
                                      "CREATE USER IF NOT EXISTS 'ecom'@'%' IDENTIFIED BY 'ecom';\n"
                                      "GRANT ALL ON *.* TO 'ecom'@'%';\n")
    daemon.run(program("mariadb-install-db", "mariadb-server"), "--no-defaults", "--skip-test-db",
               "--auth-root-authentication-method=normal", f"--datadir={folder}/data")
    daemon.start()
    return daemon


def redis(work):
    """Returns a Redis that keeps everything in memory, which is running."""
    [port] = free_ports(1)
    command = [program("redis-server", "redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "",
               "--appendonly", "no"]
    daemon = Daemon(work, "redis", command, port, user="nobody")
    daemon.start()
    return daemon


def elasticsearch(work):
    """Returns an Elasticsearch without security, which is running. `test-servers` has unpacked its package before."""
    homes = [home for cache in CACHES for home in sorted(cache.glob("elasticsearch-*/home"))]
    if not homes:
        sys.exit("there is no Elasticsearch: `cargo run -p test-servers` unpacks one into /var/cache/ecom-test-servers")
    java = [pathlib.Path(home) for home in [os.environ.get("TEST_JAVA_HOME")] if home]
    java += sorted(pathlib.Path("/usr/lib/jvm").glob("*"))
    java = [home for home in java if java_version(home) >= 21]
    if not java:
        sys.exit("there is no Java of version 21 or newer: install one in /usr/lib/jvm, or set TEST_JAVA_HOME")
    port, transport = free_ports(2)
    folder = work / "elasticsearch"
    environment = {"ES_PATH_CONF": f"{folder}/config", "ES_JAVA_HOME": str(java[0]),
                   "ES_JAVA_OPTS": "-Xms512m -Xmx512m"}
    daemon = Daemon(work, "elasticsearch", [homes[-1] / "bin/elasticsearch"], port, "nobody", environment)
    daemon.run("cp", "-r", homes[-1] / "config", folder / "config")
    settings = {"http.port": port, "http.host": "127.0.0.1", "transport.host": "127.0.0.1",
                "transport.port": transport, "discovery.type": "single-node", "path.data": f"{folder}/data",
                "path.logs": f"{folder}/logs", "cluster.routing.allocation.disk.threshold_enabled": "false",
                "xpack.security.enabled": "false"}
    (folder / "config/elasticsearch.yml").write_text("".join(f"{k}: {v}\n" for k, v in settings.items()))
    daemon.start()
    wait_for("Elasticsearch", lambda: (answers(port, "/_cluster/health") or [0])[0] == 200)
    return daemon


def java_version(home):
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(re.findall(r'^JAVA_VERSION="(\d+)', (home / "release").read_text(), re.M)[0])
    return 0


class Proxy:
    """A TCP proxy in front of a server, which can delay what the server answers.

    It adds no fault of its own: if the server is killed, the proxy refuses connections too, once `refuse` was called.
    """

    def __init__(self, target):
        self.target = target
        self.delay = lambda: 0.0
        [self.port] = free_ports(1)
        self.loop = asyncio.new_event_loop()
        self.listener = None
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.listen()

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def listen(self):
        async def listen():
            self.listener = await asyncio.start_server(self.connected, "127.0.0.1", self.port)

        self.call(listen())

    def refuse(self):
        """Refuses new connections. Those that are open end with the server."""

        async def close():
            self.listener.close()

        self.call(close())

    async def connected(self, reader, writer):
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        forward = [self.copy(reader, up_writer, lambda: 0.0), self.copy(up_reader, writer, lambda: self.delay())]
        tasks = [asyncio.ensure_future(one) for one in forward]
        # As soon as one side has ended, so has the connection.
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        for one in (writer, up_writer):
            one.transport.abort()

    async def copy(self, reader, writer, delay):
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                # What arrives meanwhile waits in the buffer, and is read as one piece.
                if seconds := delay():
                    await asyncio.sleep(seconds)
                writer.write(data)
                await writer.drain()


class Shop:
    """A process of the reference server."""

    def __init__(self, work, name, server, settings):
        self.work, self.name, self.server = work, name, server
        [self.port] = free_ports(1)
        self.log, self.process = work / f"{name}.log", None
        self.settings = {
            "ECOM_LISTEN": f"127.0.0.1:{self.port}",
            "ECOM_DATA": str(work / name),
            "ECOM_SECRET_KEY": "s" * 40,
            "ECOM_ADMIN_KEY": ADMIN,
            "MAILER_URL": "none",
        } | settings

    def environment(self):
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("ECOM_") and not k.endswith("_URL")}
        inherited.pop("PORT", None)
        return inherited | self.settings

    def start(self, *arguments, **settings):
        """Starts the process, and waits until it is ready."""
        with open(self.log, "a") as log:
            self.process = subprocess.Popen([self.server, *arguments], env=self.environment() | settings, stdout=log,
                                            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=self.work)
        wait_for(f"the start of {self.name}", self.is_ready)

    def is_ready(self):
        if self.process.poll() is not None:
            sys.exit(f"{self.name} has ended:\n{self.log.read_text()[-4_000:]}")
        return (answers(self.port, "/health/ready") or [0])[0] == 200

    def command(self, *arguments):
        """Runs a subcommand of the server. Returns its status and what it prints, with its log only if it fails."""
        done = subprocess.run([self.server, *arguments], env=self.environment(), capture_output=True,
                              stdin=subprocess.DEVNULL, cwd=self.work, text=True)
        return done.returncode, done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def stop(self):
        """Stops the process as a supervisor does, and waits for its end."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=STOP_LIMIT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                sys.exit(f"{self.name} has not ended within {STOP_LIMIT} s after SIGTERM")

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def call(self, method, path, body=None):
        """Sends one request as the operator. The run ends if it fails."""
        status, content = request(self.port, method, path, body)
        if status not in (200, 201):
            sys.exit(f"{self.name}: {method} {path}: {status} {content}")
        return content


def request(port, method, path, body=None, headers=None):
    """Sends one request as the operator, and returns its status and its JSON."""
    headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/json"} | (headers or {})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CLIENT_TIMEOUT)
    try:
        connection.request(method, "/api/v1" + path, body=body and json.dumps(body), headers=headers)
        response = connection.getresponse()
        content = response.read()
        return response.status, json.loads(content) if content else None
    finally:
        connection.close()


def order_of(sku):
    """Returns the body of an order of one piece."""
    return {
        "delivery_method": "on_hand",
        "customer": {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"},
        "lines": [{"sku_id": sku["id"], "quantity": 1, "unit_price": sku["final_price"]}],
    }


def new_key():
    """Returns the header of a new idempotency key."""
    return {"Idempotency-Key": str(uuid.uuid4())}


class Client(threading.Thread):
    """Sends requests one after another, until `stopping` is set. A subclass has the method `step`."""

    def __init__(self, stopping, pause):
        super().__init__(daemon=True)
        self.stopping, self.pause, self.steps = stopping, pause, 0
        self.random = random.Random(id(self))
        # When each request has ended, and whether it has succeeded.
        self.outcomes, self.failures = [], []

    def run(self):
        while not self.stopping.is_set():
            self.steps += 1
            self.step(self.steps)
            self.stopping.wait(self.pause)

    def send(self, port, method, path, body=None, headers=None):
        """Sends a request. Returns its JSON, or None if it has failed."""
        content = None
        try:
            status, content = request(port, method, path, body, headers)
            why = None if status in (200, 201) else f"{status} {content}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = repr(error)
        self.outcomes.append((time.time(), why is None))
        if why:
            self.failures.append(f"{time.strftime('%H:%M:%S')} {method} {path} on port {port}: {why}")
            return None
        return content
