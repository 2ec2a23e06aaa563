// MQTT.js as a device: a job, a session that waits, a will, retained messages.
//
// DROVER_MQTT is the listener, mqtt://HOST:PORT or ws://HOST:PORT/PATH; DROVER_VERSION the
// version of MQTT, 4 (3.1.1) or 5. DROVER_THING has a job to carry out, DROVER_JOB. Exits with 0
// if all is as it should be.
"use strict";
const assert = require("node:assert");
const mqtt = require("mqtt");

const url = process.env.DROVER_MQTT;
const version = Number(process.env.DROVER_VERSION);
const thing = process.env.DROVER_THING;
const job = process.env.DROVER_JOB;
const timeout = 20_000;

setTimeout(() => { console.error("no end"); process.exit(1); }, 3 * timeout).unref();

// within fails a promise that is not kept in time.
function within(promise, what) {
	let timer;
	const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`waited in vain: ${what}`)), timeout); });
	return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

class Device {
	constructor(clientId, { persistent = false, will } = {}) {
		this.messages = [];
		this.waiting = [];
		const properties = version === 5 && persistent ? { sessionExpiryInterval: 600 } : undefined;
		this.client = mqtt.connect(url, { clientId, clean: !persistent, protocolVersion: version, reconnectPeriod: 0, connectTimeout: timeout, will, properties });
		this.client.on("message", (topic, payload, packet) => {
			const m = { topic, payload: payload.toString(), packet };
			const next = this.waiting.shift();
			next ? next(m) : this.messages.push(m);
		});
		this.gone = new Promise((resolve) => this.client.on("close", resolve));
	}

	static async join(clientId, options) {
		const d = new Device(clientId, options);
		const connack = new Promise((resolve, reject) => { d.client.on("connect", resolve); d.client.on("error", reject); });
		d.present = (await within(connack, "CONNACK")).sessionPresent;
		return d;
	}

	next() {
		if (this.messages.length) return Promise.resolve(this.messages.shift());
		return within(new Promise((resolve) => this.waiting.push(resolve)), "a message");
	}

	async receive(topic, payload) {
		const m = await this.next();
		assert.deepStrictEqual([m.topic, m.payload], [topic, payload]);
		return m;
	}

	async subscribe(filter) {
		const [granted] = await within(this.client.subscribeAsync(filter, { qos: 1 }), "SUBACK");
		assert.strictEqual(granted.qos, 1);
	}

	publish(topic, payload, options = {}) { return within(this.client.publishAsync(topic, payload, { qos: 1, ...options }), "PUBACK"); }

	// ask publishes a request to a topic of jobs; the answer comes without subscription.
	async ask(topic, request) {
		await this.publish(topic, JSON.stringify(request));
		for (;;) {
			const m = await this.next();
			if (m.topic === `${topic}/accepted`) return JSON.parse(m.payload);
			assert(!m.topic.endsWith("/rejected"), m.payload);
		}
	}

	leave() { return within(this.client.endAsync(), "the end"); }

	// cut ends the connection without a word.
	cut() { this.client.stream.destroy(); return within(this.gone, "the end"); }
}

async function main() {
	const me = `${thing}-js`;
	const other = await Device.join(`${me}-other`);

	const root = `$aws/things/${thing}/jobs/`;
	const device = await Device.join(thing);
	await device.subscribe(`${root}notify`);
	const started = await device.ask(`${root}start-next`, { clientToken: "start" });
	assert.strictEqual(started.execution.jobId, job);
	const ended = await device.ask(`${root}${job}/update`, { status: "SUCCEEDED", includeJobExecutionState: true });
	assert.strictEqual(ended.executionState.status, "SUCCEEDED");
	await device.leave();

	let away = await Device.join(me, { persistent: true });
	assert(!away.present);
	await away.subscribe(`${me}/away/+`);
	for (const end of ["leave", "cut"]) {
		await away[end]();
		for (let n = 0; n < 3; n++) await other.publish(`${me}/away/${n}`, `${end} ${n}`);
		away = new Device(me, { persistent: true }); // messages may come with the CONNACK
		for (let n = 0; n < 3; n++) await away.receive(`${me}/away/${n}`, `${end} ${n}`);
	}
	await away.leave();

	await other.subscribe(`${me}/will`);
	const mortal = await Device.join(`${me}-mortal`, { will: { topic: `${me}/will`, payload: Buffer.from("gone"), qos: 1 } });
	await mortal.cut();
	await other.receive(`${me}/will`, "gone");

	const properties = version === 5 ? { contentType: "text/plain", responseTopic: `${me}/answer`, correlationData: Buffer.from([0, 255]), userProperties: { color: ["green", "blue"] } } : undefined;
	await other.publish(`${me}/kept`, "kept", { retain: true, properties });
	const late = await Device.join(`${me}-late`);
	await late.subscribe(`${me}/kept`);
	const m = await late.receive(`${me}/kept`, "kept");
	assert(m.packet.retain);
	if (version === 5) {
		const p = m.packet.properties;
		assert.deepStrictEqual([p.contentType, p.responseTopic, [...p.correlationData], { ...p.userProperties }], ["text/plain", `${me}/answer`, [0, 255], { color: ["green", "blue"] }]);
	}
	await other.publish(`${me}/kept`, "", { retain: true });
	await late.receive(`${me}/kept`, "");

	const twin = await Device.join(`${me}-late`);
	await within(late.gone, "the displaced client's end");
	await twin.leave();
	await other.leave();
	console.error("ok");
}

main().then(() => process.exit(0), (err) => { console.error(err); process.exit(1); });
