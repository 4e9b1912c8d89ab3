// A device that speaks Sealpost: it sends readings sealed, and receives what is sealed for it. MQTT 5, with mqtt.js.
//
//     node sensor.js --user NAME --home DIR send TO    # seals each line of standard input
//     node sensor.js --user NAME --home DIR listen     # prints a line of JSON for each message
import { EventEmitter, once } from 'node:events'
import { existsSync, readFileSync, renameSync, statSync, unlinkSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import mqtt from 'mqtt'
import { Bundle } from './bundle.js'
import { Burst, Envelope } from './envelope.js'
import { Home, now, say, write } from './home.js'
import { DAY, REALM, Refused, USER, ensure, matching, timeText } from './keys.js'

const WINDOW = 64 // messages on their way at once: what a crash sends again, and what memory holds
const MAX_WAITING = 256 // envelopes of senders whose bundle is not here yet (7.8)
const NO_BUNDLE_MS = 5_000 // after which there is none (10.6)
const AGAIN_LATER = [0x80, 0x83, 0x97] // PUBACKs after which the same bytes are sent again (10.5)
const NO_WAY_IN = [0x84, 0x85, 0x86, 0x87, 0x8c] // CONNACKs that will be no others next time (10.2)
const MONTH_S = 30 * 86_400

/** A connection that comes back by itself, each time with a token minted for it. */
class Link extends EventEmitter {
  client = null
  ended = false

  constructor (home, options, purpose, session, topics, take) {
    super()
    Object.assign(this, { home, options, clientId: `sensor-${purpose}`, session, topics, take })
    this.#run().catch(fail)
  }

  async #run () {
    for (let wait = 1_000; !this.ended; wait = Math.min(wait * 2, 60_000)) {
      if (await this.#connection()) wait = 1_000
      if (!this.ended) await delay(wait * (0.5 + Math.random() / 2))
    }
  }

  /** One connection, until it closes; gives whether the broker let us in. */
  async #connection () {
    const { home, options, clientId } = this
    const password = options['password-file'] ? readFileSync(options['password-file'], 'utf8').split('\n')[0] : await home.token(clientId)
    const client = mqtt.connect(options.broker, {
      protocolVersion: 5,
      clientId,
      username: home.user,
      password,
      clean: !this.session,
      // Below what may wait of one sender: its bundle comes before there are too many (7.8).
      properties: { sessionExpiryInterval: this.session, receiveMaximum: 16 },
      keepalive: 30,
      reconnectPeriod: 0, // its own would come with the same token again
      ca: options.ca && readFileSync(options.ca)
    })
    client.on('error', (error) => {
      say(`the broker: ${error.message}`)
      if (NO_WAY_IN.includes(error.code)) process.exit(1) // whatever is not sent is in the outbox
    })
    client.on('packetreceive', ({ cmd, properties }) => cmd === 'connack' && properties?.reasonString && say(properties.reasonString))
    // One at a time; the PUBACK goes out at the callback.
    client.handleMessage = ({ topic, payload }, callback) => { this.take(topic, payload).then(() => callback(), fail) }
    client.on('connect', () => {
      this.client = client
      this.emit('connect')
      client.publish(`keys/${home.user}`, home.bundle, { qos: 1, retain: true }, (error) => error && say(`our bundle: ${error.message}`))
      client.subscribe(this.topics(), { qos: 1 }, (error) => {
        say(error ? `a subscription: ${error.message}` : 'connected')
        this.emit('connected')
      })
    })
    await new Promise((resolve) => client.once('close', resolve))
    const came = this.client === client
    this.client = null
    client.end(true)
    return came
  }

  end () {
    this.ended = true
    this.client?.end()
  }
}

function fail (error) {
  say(error instanceof Refused ? `refused: ${error.message}` : error)
  process.exit(1)
}

/** No control characters and no bidirectional overrides reach a terminal (8.1). */
const ascii = (json) => json.replace(/[\u007f-\uffff]/g, (c) => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0'))

/** 8.4: a line is any JSON, or else text. */
function reading (number, line) {
  let value = line
  try { value = JSON.parse(line) } catch {}
  return `{"kind":"reading","number":${number},"at":${timeText(now())},"reading":${JSON.stringify(value)}}`
}

/** Each line goes into the outbox, then to the broker, and out of the outbox when the broker has it on disk. */
async function send (home, options, to) {
  let [bundle, burst, refused] = [await home.believed(matching(USER, to)), null, 0]
  const bundles = []
  const onWay = new Set(home.list('outbox')) // of a run that was cut off: the same bytes go again
  const link = new Link(home, options, 'send', 0, () => [`keys/${to}`], async (_, payload) => {
    bundles.push(payload)
    link.emit('bundle')
  })
  const publish = (name) => {
    const payload = readFileSync(home.path('outbox', name))
    link.client?.publish(`inbox/${Envelope.parse(payload).to}`, payload, { qos: 1 }, (error) => settle(name, error))
  }
  const settle = (name, error) => { // 10.5
    if (!onWay.has(name) || (error && !error.code)) return // the connection closed: it goes again with the next
    if (error) say(`the broker refuses ${name}: ${error.message}`)
    if (AGAIN_LATER.includes(error?.code)) return setTimeout(publish, 60_000, name)
    if (error) renameSync(home.path('outbox', name), home.path('refused', name), refused++)
    else unlinkSync(home.path('outbox', name))
    onWay.delete(name)
    link.emit('settled')
  }
  link.on('connect', () => [...onWay].sort().forEach(publish))

  const sent = home.path('sent', to)
  const [last, id] = existsSync(sent) ? readFileSync(sent, 'utf8').split(' ') : ['0', '']
  let [number, prev] = [Number(last), Buffer.from(id, 'hex')]
  for await (const line of createInterface({ input: process.stdin })) {
    while (onWay.size >= WINDOW) await once(link, 'settled')
    if (!bundle && !link.client) await once(link, 'connected')
    if (!bundle && !bundles.length) await Promise.race([once(link, 'bundle'), delay(NO_BUNDLE_MS)])
    while (!bundle || bundles.length) [bundle, burst] = [await home.reachable(to, bundles.shift()), null]
    if (!burst?.lasts(now())) burst = await Burst.begin(home.me, home.realm, home.user, bundle, now())
    const envelope = await burst.seal(reading(++number, line), prev, now())
    prev = envelope.id
    // In this order no number is given twice: what is lost in between is missing, as `prev` shows too.
    write(sent, `${number} ${prev.toString('hex')}`)
    const name = `${to}.${String(number).padStart(12, '0')}`
    write(home.path('outbox', name), envelope.encode())
    onWay.add(name)
    publish(name)
  }
  while (onWay.size) await once(link, 'settled')
  link.end()
  process.exitCode = refused ? 1 : 0
}

/** Acknowledges what is stored, put aside until its sender's bundle comes, or refused for good (10.6). */
function listen (home, options) {
  const [inbox, mine] = [`inbox/${home.user}`, `keys/${home.user}`]
  const waiting = (sender) => home.list('waiting').filter((name) => !sender || name.startsWith(`${sender}.`))
  const read = (name) => readFileSync(home.path('waiting', name))

  function topics () {
    for (const name of waiting()) {
      if (now() - statSync(home.path('waiting', name)).mtimeMs > 45 * DAY) unlinkSync(home.path('waiting', name))
    }
    const senders = new Set([...home.list('contacts'), ...waiting().map((name) => name.split('.')[0])])
    return [inbox, mine, ...[...senders].map((sender) => `keys/${sender}`)]
  }

  async function show (payload) {
    const line = await home.receive(payload)
    if (!line) return false
    const { from, id, content } = line
    if (content.kind !== 'receipt') console.log(ascii(JSON.stringify({ from, id, content })))
    return true
  }

  async function open (payload) {
    if (await show(payload)) return
    const { from } = Envelope.parse(payload)
    const ours = waiting(from)
    ensure(waiting().length < MAX_WAITING && ours.length < 32, 'too many wait')
    const number = ours.length ? Number(ours.at(-1).split('.')[1]) + 1 : 0
    write(home.path('waiting', `${from}.${String(number).padStart(12, '0')}`), payload)
    link.client?.subscribe(`keys/${from}`, { qos: 1 })
  }

  async function believe (sender, payload) {
    const { identity } = await Bundle.parse(payload)
    const names = waiting(sender)
    const known = await home.believed(sender)
    if (!known && !names.some((name) => Envelope.parse(read(name)).signer.equals(identity))) return
    await home.assess(sender, payload)
    for (const name of names) {
      await attempt(show(read(name)))
      unlinkSync(home.path('waiting', name))
    }
  }

  const attempt = (action) => action.catch((error) => {
    if (!(error instanceof Refused)) throw error
    say(`refused: ${error.message}`)
  })

  async function take (topic, payload) {
    if (topic === inbox) await attempt(open(payload))
    else if (topic !== mine) await attempt(believe(topic.replace('keys/', ''), payload))
    else if (!payload.equals(home.bundle)) say('WARNING: somebody else has published a bundle in my name')
  }

  // What the last connection brought is done before what this one brings: one message must not be looked at twice at once.
  let turn = Promise.resolve()
  const link = new Link(home, options, 'listen', MONTH_S, topics, (...message) => { turn = turn.then(() => take(...message)); return turn })
}

const text = { type: 'string' }
const { values, positionals: [command, to] } = parseArgs({
  allowPositionals: true,
  options: {
    broker: { ...text, default: 'mqtt://127.0.0.1:1883' }, // or mqtts://, ws://, wss://
    ca: text, // the authority's certificate, for mqtts:// and wss://
    realm: { ...text, default: 'local' },
    user: text,
    home: text, // the folder for keys and mail
    'password-file': text // sign in with this password, not with the identity key
  }
})
if (!values.user || !values.home || !(command === 'listen' || (command === 'send' && to))) {
  say('usage: node sensor.js [--broker URL] [--ca FILE] [--realm NAME] [--password-file FILE] --user NAME --home DIR (send TO | listen)')
  process.exit(2)
}
try {
  const home = await Home.open(values.home, matching(REALM, values.realm), matching(USER, values.user))
  await (command === 'send' ? send(home, values, to) : listen(home, values))
} catch (error) {
  fail(error)
}
