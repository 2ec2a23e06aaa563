"""A job carried out by AWS's own device SDK for Python (awsiotsdk) over MQTT.

The API is found by AWS's own variables, the version of MQTT by DROVER_VERSION, 4 (3.1.1) or 5, the
devices' listener by DROVER_MQTT: mqtt://HOST:PORT without TLS, mqtts://HOST:PORT with a certificate,
alpn://HOST:PORT with a certificate on the port where the protocol is told by ALPN, wss://HOST:PORT
for MQTT over WebSocket, signed (Signature Version 4) with the keys of the API. With TLS, DROVER_ROOTS is the file of the roots to trust. Registers a thing, creates a job, and plays its device
the way AWS's samples do: subscribe to next-job notices, start, report, finish. Then it is offline when
the next job comes, and hears of it at its return, from its session. Exits with 0 once the job is
COMPLETED.
"""
import concurrent.futures
import json
import os
import sys
import uuid
from urllib.parse import urlparse

import boto3
from awscrt import auth, io, mqtt, mqtt5
from awsiot import iotjobs, mqtt5_client_builder, mqtt_connection_builder

TIMEOUT = 20

iot = boto3.client("iot")
name = "sdk-" + uuid.uuid4().hex[:8]
job = name + "-job"
arn = iot.create_thing(thingName=name)["thingArn"]

address = urlparse(os.environ["DROVER_MQTT"])
version = int(os.environ["DROVER_VERSION"])
tls, signed = None, None
if address.scheme == "wss":
    keys = boto3.Session().get_credentials()
    signed = dict(
        region=boto3.Session().region_name or os.environ["AWS_REGION"], endpoint=address.hostname, port=address.port, ca_filepath=os.environ["DROVER_ROOTS"],
        credentials_provider=auth.AwsCredentialsProvider.new_static(keys.access_key, keys.secret_key))
elif address.scheme != "mqtt":
    keys = iot.create_keys_and_certificate(setAsActive=True)
    iot.attach_thing_principal(thingName=name, principal=keys["certificateArn"])
    iot.create_policy(policyName=name, policyDocument=json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "iot:Connect", "Resource": "arn:aws:iot:*:*:client/${iot:Connection.Thing.ThingName}"},
        {"Effect": "Allow", "Action": ["iot:Publish", "iot:Receive"],
         "Resource": "arn:aws:iot:*:*:topic/$aws/things/${iot:Connection.Thing.ThingName}/jobs/*"},
        {"Effect": "Allow", "Action": "iot:Subscribe",
         "Resource": "arn:aws:iot:*:*:topicfilter/$aws/things/${iot:Connection.Thing.ThingName}/jobs/*"}]}))
    iot.attach_policy(policyName=name, target=keys["certificateArn"])
    options = io.TlsContextOptions.create_client_with_mtls(keys["certificatePem"].encode(), keys["keyPair"]["PrivateKey"].encode())
    options.override_default_trust_store_from_path(None, os.environ["DROVER_ROOTS"])
    if address.scheme == "alpn":
        options.alpn_list = ["x-amzn-mqtt-ca"]
    tls = io.ClientTlsContext(options)
group = io.EventLoopGroup(1)
bootstrap = io.ClientBootstrap(group, io.DefaultHostResolver(group))


class Device3:
    """A device of MQTT 3.1.1 that keeps its session. received is called with every message."""

    def __init__(self, received=None):
        options = dict(client_id=name, clean_session=False, keep_alive_secs=60)
        if signed:
            self.connection = mqtt_connection_builder.websockets_with_default_aws_signing(client_bootstrap=bootstrap, **signed, **options)
        else:
            self.connection = mqtt.Connection(client=mqtt.Client(bootstrap, tls), host_name=address.hostname, port=address.port, **options)
        if received:
            self.connection.on_message(lambda topic, payload, **_: received(topic, payload))
        self.present = self.connection.connect().result(TIMEOUT)["session_present"]

    def leave(self):
        self.connection.disconnect().result(TIMEOUT)


class Device5:
    """The same of MQTT 5."""

    def __init__(self, received=None):
        connected, self.stopped = concurrent.futures.Future(), concurrent.futures.Future()
        options = mqtt5.ClientOptions(
            host_name=address.hostname, port=address.port, bootstrap=bootstrap, tls_ctx=tls,
            connect_options=mqtt5.ConnectPacket(client_id=name, keep_alive_interval_sec=60, session_expiry_interval_sec=600),
            session_behavior=mqtt5.ClientSessionBehaviorType.REJOIN_ALWAYS,
            on_publish_callback_fn=lambda e: received and received(e.publish_packet.topic, e.publish_packet.payload),
            on_lifecycle_event_connection_success_fn=lambda e: connected.set_result(e.connack_packet.session_present),
            on_lifecycle_event_connection_failure_fn=lambda e: connected.set_exception(e.exception),
            on_lifecycle_event_stopped_fn=lambda _: self.stopped.set_result(None))
        if signed:
            self.connection = mqtt5_client_builder.websockets_with_default_aws_signing(client_options=options, **signed)
        else:
            self.connection = mqtt5.Client(options)
        self.connection.start()
        self.present = connected.result(TIMEOUT)

    def leave(self):
        self.connection.stop(mqtt5.DisconnectPacket())
        self.stopped.result(TIMEOUT)


Device = Device5 if version == 5 else Device3
device = Device()
assert not device.present
jobs = iotjobs.IotJobsClient(device.connection)
AT_LEAST_ONCE = mqtt.QoS.AT_LEAST_ONCE


def request(publish, call, subscriptions, arguments):
    """Publishes a request and returns the accepted answer."""
    answer = concurrent.futures.Future()
    for subscribe, of, accepted in subscriptions:
        subscribed, _ = subscribe(of, AT_LEAST_ONCE, answer.set_result if accepted else lambda e: answer.set_exception(RuntimeError(f"{e.code}: {e.message}")))
        subscribed.result(TIMEOUT)
    publish(call(**arguments), AT_LEAST_ONCE).result(TIMEOUT)
    return answer.result(TIMEOUT)


notices = []
arrived = [concurrent.futures.Future(), concurrent.futures.Future()]


def on_next(event):
    notices.append(event)
    arrived[len(notices) - 1].set_result(event)


subscribed, _ = jobs.subscribe_to_next_job_execution_changed_events(
    iotjobs.NextJobExecutionChangedSubscriptionRequest(thing_name=name), AT_LEAST_ONCE, on_next)
subscribed.result(TIMEOUT)

iot.create_job(jobId=job, targets=[arn], document='{"operation":"reboot"}')
notice = arrived[0].result(TIMEOUT)
assert notice.execution.job_id == job and notice.execution.job_document == {"operation": "reboot"}, notice

of = iotjobs.StartNextPendingJobExecutionSubscriptionRequest(thing_name=name)
started = request(
    jobs.publish_start_next_pending_job_execution, iotjobs.StartNextPendingJobExecutionRequest,
    [(jobs.subscribe_to_start_next_pending_job_execution_accepted, of, True),
     (jobs.subscribe_to_start_next_pending_job_execution_rejected, of, False)],
    dict(thing_name=name, client_token="start"))
assert started.execution.job_id == job and started.execution.status == "IN_PROGRESS" and started.client_token == "start", started

of = iotjobs.UpdateJobExecutionSubscriptionRequest(thing_name=name, job_id=job)
updated = request(
    jobs.publish_update_job_execution, iotjobs.UpdateJobExecutionRequest,
    [(jobs.subscribe_to_update_job_execution_accepted, of, True),
     (jobs.subscribe_to_update_job_execution_rejected, of, False)],
    dict(thing_name=name, job_id=job, status="SUCCEEDED", expected_version=started.execution.version_number,
         include_job_execution_state=True, status_details={"result": "rebooted"}, client_token="end"))
assert updated.execution_state.status == "SUCCEEDED", updated

notice = arrived[1].result(TIMEOUT)
assert notice.execution is None, notice
device.leave()
status = iot.describe_job(jobId=job)["job"]["status"]
assert status == "COMPLETED", status

iot.create_job(jobId=job + "-2", targets=[arn], document='{"operation":"reboot"}')
heard = concurrent.futures.Future()


def on_message(topic, payload):
    # The notice before may come again: the SDK does not wait until it has acknowledged it.
    if topic.endswith("/jobs/notify-next") and "execution" in json.loads(payload) and not heard.done():
        heard.set_result(json.loads(payload))


device = Device(on_message)
assert device.present
assert heard.result(TIMEOUT)["execution"]["jobId"] == job + "-2", heard.result()
device.leave()
print("ok", file=sys.stderr)
