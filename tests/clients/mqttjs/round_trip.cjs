// mqtt.js connects, subscribes, publishes, and gets back what it has published, whatever its size, also many at once.
// Arguments: URL (mqtt, mqtts, ws or wss), protocol version (4 or 5), and the authority's certificate for TLS.
// Ends with 0 and one line on standard output, or with 1 and the reason on standard error.
'use strict'

const { readFileSync } = require('node:fs')
const mqtt = require('mqtt')

// Far above what a loaded machine needs.
const PATIENCE_MS = 60_000

// Around the borders of WebSocket frames (125 and 65,535 bytes), of TLS records (16 KiB) and of buffers.
const SIZES = [0, 1, 100, 125, 126, 4095, 4096, 16383, 16384, 65535, 65536, 98304, 120000]

const [url, version, ca] = process.argv.slice(2)

function fail (why) {
  console.error(why)
  process.exit(1)
}

setTimeout(() => fail('not done in time'), PATIENCE_MS).unref()

async function main () {
  const client = await mqtt.connectAsync(url, {
    protocolVersion: Number(version),
    clientId: 'mqttjs',
    reconnectPeriod: 0,
    ca: ca ? readFileSync(ca) : undefined
  }, false)
  const received = []
  const all = new Promise((resolve) => client.on('message', (_, payload) => {
    received.push(payload)
    if (received.length === SIZES.length) resolve()
  }))
  client.on('close', () => fail('the connection was closed'))
  await client.subscribeAsync('round/trip', { qos: 1 })
  const sent = SIZES.map((size) => Buffer.from(Uint8Array.from({ length: size }, (_, number) => number % 251)))
  await Promise.all(sent.map((payload) => client.publishAsync('round/trip', payload, { qos: 1 })))
  await all
  sent.forEach((payload, index) => {
    if (!payload.equals(received[index])) fail(`${payload.length} bytes came back changed`)
  })
  client.removeAllListeners('close')
  await client.endAsync()
  console.log('round trip done')
}

main().catch((error) => fail(String(error)))
