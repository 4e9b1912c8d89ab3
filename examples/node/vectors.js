// Holds keys.js, bundle.js and envelope.js against the JSON vectors: node vectors.js ../../tests/vectors
import { readFileSync, readdirSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import { join } from 'node:path'
import * as keys from './keys.js'
import { Bundle, assess } from './bundle.js'
import { Envelope, openEnvelope, padded, parseContent } from './envelope.js'

const d64 = (text) => Buffer.from(text, 'base64')
const hex = (data) => data.toString('hex')
const wire = (given) => Buffer.concat([
  'text' in given ? Buffer.from(given.text) : d64(given.base64), Buffer.alloc(given.spaces ?? 0, ' ')])
const pinned = (given) => given && {
  identity: d64(given.identity), seq: given.seq, digest: async () => d64(given.digest), encryption: [true]
}
// PKCS #8 of an Ed25519 key is this and the seed (RFC 8410).
const seedOf = (person) => keys.identity(Buffer.concat([d64('MC4CAQAwBQYDK2VwBCIEIA=='), d64(person.seed)]))
const secretOf = (person) => keys.subtle.importKey('pkcs8', d64(person.rsa), keys.OAEP, false, ['decrypt'])

function same (got, wanted) {
  if (!isDeepStrictEqual(got, wanted)) throw new Error(`${JSON.stringify(got)}, not ${JSON.stringify(wanted)}`)
}

function says (content, wanted) {
  same(content.kind, wanted.kind)
  if ('text' in wanted) same(content.text, wanted.text)
}

const LEFT_OUT = Symbol('left out')
const FILES = {
  async people (c) { same(keys.b64((await seedOf(c)).key), c.identity) },
  names (c) {
    const read = {
      user: (t) => keys.matching(keys.USER, t), realm: (t) => keys.matching(keys.REALM, t), 'message-id': keys.messageId, time: keys.millis
    }[c.what]
    if (!read) return LEFT_OUT // topics and filters are made here, and never parsed
    const value = read(c.text)
    if (c.what === 'time') same([value, keys.timeText(value), keys.time(Number(c.text))], [c.millis, c.text, c.millis])
  },
  async transcripts (c, people) {
    const data = keys.transcript(c.label, ...c.fields.map((field) => Buffer.from(field.hex, 'hex')))
    same(hex(data), c.hex)
    if (c.signer) same(keys.b64(await keys.sign(await seedOf(people[c.signer]), data)), c.signature)
  },
  identity_keys (c) { keys.identityKey(d64(c.key)) },
  signatures: (c) => keys.verify(d64(c.key), d64(c.message), d64(c.signature)),
  encryption_keys: (c) => keys.encryptionKey(d64(c.key)),
  async key_ids (c) { same(keys.b64(await keys.keyId(c.realm, d64(c.identity), d64(c.encryption))), c.id) },
  async bundles (c) {
    const bundle = await Bundle.parse(wire(c.bundle))
    same([keys.b64(await bundle.digest()), bundle.usableKeys.length], [c.digest, c.usable_keys])
  },
  async trust (c) {
    const bundle = await Bundle.parse(wire(c.bundle))
    same(await assess(pinned(c.pin), bundle, c.realm, c.user, keys.millis(c.now)), c.expect)
  },
  async envelopes (c) {
    const e = Envelope.parse(wire(c.envelope))
    const holds = await keys.verify(e.signer, e.signed(), e.sig).then(() => true, () => false)
    same([holds, keys.b64(await keys.sha256(e.signed()))], [c.signature_holds, c.digest])
  },
  async openings (c, people) {
    const needed = /^(ok|cannot-decrypt|bad-content.*)$/.test(c.expect) // before step 8 there is no private key to be used
    const mine = new Map()
    for (const owner of c.keys) {
      const id = await keys.keyId(c.realm, d64(c.identity), d64(people[owner].encryption))
      mine.set(hex(id), needed ? await secretOf(people[owner]) : null)
    }
    says(await openEnvelope(Envelope.parse(wire(c.envelope)), {
      realm: c.realm,
      user: c.user,
      keys: mine,
      signers: [d64(c.pinned)],
      seen: new Set((c.seen ?? []).map((id) => hex(keys.messageId(id)))),
      floor: keys.millis(c.floor ?? '0.000'),
      suspended: false,
      cache: new Map()
    }), c.content)
  },
  padding (c) { same(padded(c.length), c.padded) },
  content (c) {
    if (wire(c.plaintext).includes('"receipt"')) return LEFT_OUT // a device takes a receipt for one more unknown kind
    says(parseContent(wire(c.plaintext)), c.content)
  },
  async logins (c, people) { // the broker checks tokens; what is made here has to be the good ones
    if (c.expect !== 'ok') return LEFT_OUT
    const token = Buffer.from(c.token, 'base64url')
    const me = await seedOf(Object.values(people).find((p) => d64(p.identity).equals(token.subarray(0, 32))))
    const issued = token.readBigUInt64BE(32)
    same(await keys.loginToken(me, c.realm, c.user, c.client_id, issued, token.subarray(40, 56), d64(c.channel_binding)), c.token)
  },
  // What operators hand out, what people compare and write, and what those check who collect readings: nothing of a device's.
  invitations: () => LEFT_OUT,
  uris: () => LEFT_OUT,
  safety_numbers: () => LEFT_OUT,
  readings: () => LEFT_OUT,
  conversation: () => LEFT_OUT,
  expiries: () => LEFT_OUT,
  files: () => LEFT_OUT,
  file_chunks: () => LEFT_OUT,
  file_names: () => LEFT_OUT
}
const GOOD = ['ok', 'first-contact', 'unchanged', 'newer', 'linked-change', undefined]

const folder = process.argv[2]
const load = (name) => JSON.parse(readFileSync(join(folder, `${name}.json`))).cases
const found = readdirSync(folder).filter((name) => name.endsWith('.json')).map((name) => name.slice(0, -5)).sort()
same(found.filter((file) => !FILES[file]), [])
const people = Object.fromEntries(load('people').map((person) => [person.name, person]))
let passed = 0; let failed = 0; let leftOut = 0
for (const file of found) {
  for (const [index, c] of load(file).entries()) {
    let came = 'accepted'
    try {
      if (await FILES[file](c, people) === LEFT_OUT) { leftOut++; continue }
    } catch (error) {
      came = error instanceof keys.Refused ? 'refused' : String(error)
    }
    if (came === (GOOD.includes(c.expect) ? 'accepted' : 'refused')) { passed++; continue }
    failed++
    console.error(`${file} ${index + 1} (${c.name}): ${came}, expected ${c.expect}`)
  }
}
console.log(`${passed} passed, ${failed} failed, ${leftOut} left out`)
process.exitCode = failed ? 1 : 0
