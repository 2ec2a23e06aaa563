"""Eclipse Paho for Python as a device: a job, a session that waits, a will, retained messages.

DROVER_MQTT is the listener, mqtt://HOST:PORT or ws://HOST:PORT/PATH; DROVER_VERSION the version
of MQTT, 4 (3.1.1) or 5. DROVER_THING has a job to carry out, DROVER_JOB. Exits with 0 if
all is as it should be.
"""
import json
import os
import queue
import sys
from urllib.parse import urlparse

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

TIMEOUT = 20
address = urlparse(os.environ["DROVER_MQTT"])
version = int(os.environ["DROVER_VERSION"])
thing, job = os.environ["DROVER_THING"], os.environ["DROVER_JOB"]


class Device:
    """A client whose events are waited for one by one."""

    def __init__(self, client_id, persistent=False, will=None):
        self.connected, self.subscribed, self.messages, self.gone = queue.Queue(), queue.Queue(), queue.Queue(), queue.Queue()
        clean = {} if version == 5 else {"clean_session": not persistent}
        self.client = c = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5 if version == 5 else mqtt.MQTTv311,
            transport="websockets" if address.scheme == "ws" else "tcp", reconnect_on_failure=False, **clean)
        if address.scheme == "ws":
            c.ws_set_options(path=address.path)
        c.on_connect = lambda _c, _u, flags, code, _p: self.connected.put((flags.session_present, code))
        c.on_subscribe = lambda _c, _u, _m, codes, _p: self.subscribed.put(codes)
        c.on_message = lambda _c, _u, m: self.messages.put(m)
        c.on_disconnect = lambda _c, _u, _f, code, _p: self.gone.put(code)
        if will:
            c.will_set(*will, qos=1)
        more = {}
        if version == 5:
            more = {"clean_start": not persistent, "properties": Properties(PacketTypes.CONNECT)}
            if persistent:
                more["properties"].SessionExpiryInterval = 600
        c.connect(address.hostname, address.port, keepalive=60, **more)
        c.loop_start()
        self.present, code = self.connected.get(timeout=TIMEOUT)
        assert not code.is_failure, code

    def subscribe(self, *filters):
        self.client.subscribe([(f, mqtt.SubscribeOptions(qos=1)) if version == 5 else (f, 1) for f in filters])
        codes = self.subscribed.get(timeout=TIMEOUT)
        assert [c.value for c in codes] == [1] * len(filters), codes

    def publish(self, topic, payload, retain=False, properties=None):
        self.client.publish(topic, payload, qos=1, retain=retain, properties=properties).wait_for_publish(TIMEOUT)

    def receive(self, topic, payload=None):
        m = self.messages.get(timeout=TIMEOUT)
        assert m.topic == topic and (payload is None or m.payload.decode() == payload), (m.topic, m.payload)
        return m

    def ask(self, topic, request):
        """Publishes a request to a topic of jobs; the answer comes without subscription."""
        self.publish(topic, json.dumps(request))
        return json.loads(self.receive(topic + "/accepted").payload)

    def leave(self):
        self.client.disconnect()
        self.gone.get(timeout=TIMEOUT)
        self.client.loop_stop()

    def cut(self):
        """Ends the connection without a word."""
        self.client.loop_stop()
        self.client.socket().close()


me = f"{thing}-paho"
other = Device(me + "-other")

# The job.
root = f"$aws/things/{thing}/jobs/"
device = Device(thing)
device.subscribe(root + "notify-next")
started = device.ask(root + "start-next", {"clientToken": "start"})
assert started["execution"]["jobId"] == job and started["execution"]["status"] == "IN_PROGRESS", started
ended = device.ask(root + job + "/update", {"status": "SUCCEEDED", "includeJobExecutionState": True})
assert ended["executionState"]["status"] == "SUCCEEDED", ended
assert "execution" not in json.loads(device.receive(root + "notify-next").payload)  # nothing is left
device.leave()

# A session that waits, for who was cut off.
away = Device(me, persistent=True)
assert not away.present
away.subscribe(me + "/away/+")
away.cut()
back = Device(me, persistent=True)
assert back.present
for n in range(3):
    other.publish(f"{me}/away/{n}", str(n))
    back.receive(f"{me}/away/{n}", str(n))
back.leave()
for n in range(3):
    other.publish(f"{me}/away/{n}", str(n))
back = Device(me, persistent=True)
assert back.present
for n in range(3):
    back.receive(f"{me}/away/{n}", str(n))
back.leave()
Device(me).leave()

# A will, and a retained message with what MQTT 5 adds.
other.subscribe(me + "/will")
mortal = Device(me + "-mortal", will=(me + "/will", "gone"))
mortal.cut()
other.receive(me + "/will", "gone")

properties = None
if version == 5:
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType, properties.ResponseTopic, properties.CorrelationData = "text/plain", me + "/answer", b"\x00\xff"
    properties.UserProperty = [("color", "green"), ("color", "blue")]
other.publish(me + "/kept", "kept", retain=True, properties=properties)
late = Device(me + "-late")
late.subscribe(me + "/kept")
m = late.receive(me + "/kept", "kept")
assert m.retain
if version == 5:
    p = m.properties
    assert p.ContentType == "text/plain" and p.ResponseTopic == me + "/answer" and p.CorrelationData == b"\x00\xff", p
    assert p.UserProperty == [("color", "green"), ("color", "blue")], p.UserProperty
other.publish(me + "/kept", "", retain=True)
late.receive(me + "/kept", "")

# A newcomer displaces who has its id.
twin = Device(me + "-late")
late.gone.get(timeout=TIMEOUT)
twin.leave()
other.leave()
print("ok", file=sys.stderr)
