// A job carried out by AWS's own device SDK for JavaScript (aws-iot-device-sdk-v2).
//
// DROVER_MQTT is the listener: mqtts://HOST:PORT with a certificate, alpn://HOST:PORT with a certificate
// on the port where the protocol is told by ALPN, wss://HOST:PORT for MQTT over WebSocket, signed with
// the keys in AWS's own variables. DROVER_VERSION is the version of MQTT, 4 (3.1.1) or 5, DROVER_ROOTS
// the file of the roots to trust, DROVER_CERT and DROVER_KEY those of the device. DROVER_THING has a job
// to carry out, DROVER_JOB. With DROVER_TEMPLATE the certificate is a claim: the device first
// provisions itself by that template, with the parameter Serial, and has no job. Exits with 0 if all
// is as it should be.
"use strict";
const assert = require("node:assert");
const fs = require("node:fs");
const { auth, iot, iotidentity, iotjobs, mqtt, mqtt5 } = require("aws-iot-device-sdk-v2");

const url = new URL(process.env.DROVER_MQTT.replace(/^[a-z]+:/, "https:"));
const scheme = process.env.DROVER_MQTT.split(":")[0];
const version = Number(process.env.DROVER_VERSION);
const roots = fs.readFileSync(process.env.DROVER_ROOTS, "utf8");
const region = process.env.AWS_REGION;
const timeout = 20_000;

setTimeout(() => { console.error("no end"); process.exit(1); }, 3 * timeout).unref();

// within fails a promise that is not kept in time.
function within(promise, what) {
	let timer;
	const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`waited in vain: ${what}`)), timeout); });
	return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// join3 connects with MQTT 3.1.1.
async function join3(id, cert, key) {
	const builder = scheme === "wss"
		? iot.AwsIotMqttConnectionConfigBuilder.new_builder_for_websocket().with_credentials(region, process.env.AWS_ACCESS_KEY_ID, process.env.AWS_SECRET_ACCESS_KEY)
		: iot.AwsIotMqttConnectionConfigBuilder.new_mtls_builder(cert, key);
	const config = builder.with_certificate_authority(roots).with_endpoint(url.hostname).with_port(Number(url.port))
		.with_client_id(id).with_clean_session(true).build();
	const connection = new mqtt.MqttClient().new_connection(config);
	await within(connection.connect(), "CONNACK");
	return {
		jobs: (options) => iotjobs.IotJobsClientv2.newFromMqtt311(connection, options),
		identity: (options) => iotidentity.IotIdentityClientv2.newFromMqtt311(connection, options),
		leave: () => within(connection.disconnect(), "the end"),
	};
}

// join5 connects with MQTT 5.
async function join5(id, cert, key) {
	const builder = scheme === "wss"
		? iot.AwsIotMqtt5ClientConfigBuilder.newWebsocketMqttBuilderWithSigv4Auth(url.hostname, {
			region, credentialsProvider: auth.AwsCredentialsProvider.newStatic(process.env.AWS_ACCESS_KEY_ID, process.env.AWS_SECRET_ACCESS_KEY) })
		: iot.AwsIotMqtt5ClientConfigBuilder.newDirectMqttBuilderWithMtlsFromMemory(url.hostname, cert, key);
	const config = builder.withCertificateAuthority(roots).withPort(Number(url.port))
		.withConnectProperties({ clientId: id, keepAliveIntervalSeconds: 60 }).build();
	const client = new mqtt5.Mqtt5Client(config);
	const connected = new Promise((resolve, reject) => {
		client.on("connectionSuccess", resolve);
		client.on("connectionFailure", (e) => reject(e.error));
	});
	const stopped = new Promise((resolve) => client.on("stopped", resolve));
	client.start();
	await within(connected, "CONNACK");
	return {
		jobs: (options) => iotjobs.IotJobsClientv2.newFromMqtt5(client, options),
		identity: (options) => iotidentity.IotIdentityClientv2.newFromMqtt5(client, options),
		leave: () => { client.stop(); return within(stopped, "the end"); },
	};
}

const join = version === 5 ? join5 : join3;
const options = { maxRequestResponseSubscriptions: 5, maxStreamingSubscriptions: 2, operationTimeoutInSeconds: timeout / 1000 };

async function provision(cert, key) {
	const claimed = await join("claim-" + process.env.DROVER_TEMPLATE, cert, key);
	const identity = claimed.identity(options);
	const made = await identity.createKeysAndCertificate({});
	const registered = await identity.registerThing({
		templateName: process.env.DROVER_TEMPLATE, certificateOwnershipToken: made.certificateOwnershipToken, parameters: { Serial: "s1" } });
	identity.close();
	await claimed.leave();
	const device = await join(registered.thingName, made.certificatePem, made.privateKey);
	const jobs = device.jobs(options);
	const next = await jobs.startNextPendingJobExecution({ thingName: registered.thingName });
	assert.strictEqual(next.execution, undefined);
	jobs.close();
	await device.leave();
}

async function work(cert, key) {
	const thingName = process.env.DROVER_THING, jobId = process.env.DROVER_JOB;
	const device = await join(thingName, cert, key);
	const jobs = device.jobs(options);
	const changes = jobs.createNextJobExecutionChangedStream({ thingName });
	const subscribed = new Promise((resolve, reject) => changes.on("subscriptionStatus", (e) => e.type === 0 ? resolve() : reject(e.error)));
	const emptied = new Promise((resolve) => changes.on("incomingPublish", (e) => { if (!e.message.execution) resolve(); }));
	changes.open();
	await within(subscribed, "the subscription");

	await assert.rejects(jobs.describeJobExecution({ thingName, jobId: "no-such-job" }), (e) => e.modeledError.code === "ResourceNotFound");
	const pending = await jobs.getPendingJobExecutions({ thingName });
	assert.deepStrictEqual(pending.queuedJobs.map((j) => j.jobId), [jobId]);
	const started = await jobs.startNextPendingJobExecution({ thingName, statusDetails: { step: "one" } });
	assert.deepStrictEqual([started.execution.jobId, started.execution.status], [jobId, "IN_PROGRESS"]);
	const updated = await jobs.updateJobExecution({
		thingName, jobId, status: "SUCCEEDED", expectedVersion: started.execution.versionNumber, includeJobExecutionState: true, statusDetails: { result: "done" } });
	assert.strictEqual(updated.executionState.status, "SUCCEEDED");
	await within(emptied, "a notice that nothing is pending");
	changes.close();
	jobs.close();
	await device.leave();
}

(async () => {
	const read = (name) => name && fs.readFileSync(name, "utf8");
	const cert = read(process.env.DROVER_CERT), key = read(process.env.DROVER_KEY);
	await (process.env.DROVER_TEMPLATE ? provision : work)(cert, key);
	process.exit(0); // the SDK keeps threads
})().catch((e) => { console.error(e); process.exit(1); });
