"""A device that provisions itself by claim, with AWS's own device SDK for Python (awsiotsdk).

The API is found by AWS's own variables, the devices' listener by DROVER_MQTT, mqtts://HOST:PORT, and
DROVER_ROOTS is the file of the roots to trust. Makes a provisioning template and a claim for it, and
plays the new device: with the claim it gets a key and a certificate and registers itself; with that certificate it connects and asks for its jobs. Exits with 0 if all is well.
"""
import concurrent.futures
import json
import os
import sys
import uuid
from urllib.parse import urlparse

import boto3
from awscrt import io, mqtt
from awsiot import iotidentity, iotjobs

TIMEOUT = 20
AT_LEAST_ONCE = mqtt.QoS.AT_LEAST_ONCE

iot = boto3.client("iot")
name = "sdk-" + uuid.uuid4().hex[:8]
address = urlparse(os.environ["DROVER_MQTT"])
group = io.EventLoopGroup(1)
bootstrap = io.ClientBootstrap(group, io.DefaultHostResolver(group))


def connect(client_id, certificate, key):
    options = io.TlsContextOptions.create_client_with_mtls(certificate.encode(), key.encode())
    options.override_default_trust_store_from_path(None, os.environ["DROVER_ROOTS"])
    connection = mqtt.Connection(
        client=mqtt.Client(bootstrap, io.ClientTlsContext(options)), host_name=address.hostname, port=address.port,
        client_id=client_id, clean_session=True, keep_alive_secs=60)
    connection.connect().result(TIMEOUT)
    return connection


def request(publish, call, subscribe_accepted, subscribe_rejected, of):
    """Publishes a request and returns the accepted answer."""
    answer = concurrent.futures.Future()
    subscribed, _ = subscribe_accepted(of, AT_LEAST_ONCE, answer.set_result)
    subscribed.result(TIMEOUT)
    subscribed, _ = subscribe_rejected(
        of, AT_LEAST_ONCE, lambda e: answer.set_exception(RuntimeError(f"{e.status_code} {e.error_code}: {e.error_message}")))
    subscribed.result(TIMEOUT)
    publish(call, AT_LEAST_ONCE).result(TIMEOUT)
    return answer.result(TIMEOUT)


thing_topics = "${iot:Connection.Thing.ThingName}/jobs/*"
iot.create_provisioning_template(
    templateName=name, provisioningRoleArn="arn:aws:iam::123456789012:role/provisioning", enabled=True, templateBody=json.dumps({
        "Parameters": {"Serial": {"Type": "String"}},
        "Resources": {
            "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {
                "CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"}},
            "thing": {"Type": "AWS::IoT::Thing", "Properties": {
                "ThingName": {"Fn::Join": ["-", [name, {"Ref": "Serial"}]]}, "AttributePayload": {"serial": {"Ref": "Serial"}}}},
            "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": {"Version": "2012-10-17", "Statement": [
                {"Effect": "Allow", "Action": "iot:Connect", "Resource": "arn:aws:iot:*:*:client/${iot:Connection.Thing.ThingName}"},
                {"Effect": "Allow", "Action": ["iot:Publish", "iot:Receive"], "Resource": "arn:aws:iot:*:*:topic/$aws/things/" + thing_topics},
                {"Effect": "Allow", "Action": "iot:Subscribe", "Resource": "arn:aws:iot:*:*:topicfilter/$aws/things/" + thing_topics}]}}}},
        "DeviceConfiguration": {"greeting": {"Fn::Sub": "hello ${Serial}"}}}))
claim = iot.create_provisioning_claim(templateName=name)

connection = connect(name + "-new", claim["certificatePem"], claim["keyPair"]["PrivateKey"])
identity = iotidentity.IotIdentityClient(connection)
made = request(
    identity.publish_create_keys_and_certificate, iotidentity.CreateKeysAndCertificateRequest(),
    identity.subscribe_to_create_keys_and_certificate_accepted, identity.subscribe_to_create_keys_and_certificate_rejected,
    iotidentity.CreateKeysAndCertificateSubscriptionRequest())
registered = request(
    identity.publish_register_thing,
    iotidentity.RegisterThingRequest(
        template_name=name, certificate_ownership_token=made.certificate_ownership_token, parameters={"Serial": "17"}),
    identity.subscribe_to_register_thing_accepted, identity.subscribe_to_register_thing_rejected,
    iotidentity.RegisterThingSubscriptionRequest(template_name=name))
thing = registered.thing_name
assert thing == name + "-17" and registered.device_configuration == {"greeting": "hello 17"}, registered
connection.disconnect().result(TIMEOUT)

connection = connect(thing, made.certificate_pem, made.private_key)
jobs = iotjobs.IotJobsClient(connection)
pending = request(
    jobs.publish_get_pending_job_executions, iotjobs.GetPendingJobExecutionsRequest(thing_name=thing, client_token="pending"),
    jobs.subscribe_to_get_pending_job_executions_accepted, jobs.subscribe_to_get_pending_job_executions_rejected,
    iotjobs.GetPendingJobExecutionsSubscriptionRequest(thing_name=thing))
assert pending.client_token == "pending", pending
connection.disconnect().result(TIMEOUT)
assert iot.describe_thing(thingName=thing)["attributes"] == {"serial": "17"}
print("ok", file=sys.stderr)
