// What a device keeps in its folder: keys, contacts' bundles, mail on its way, and what it received.
import fs from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { ALG, Bundle, assess } from './bundle.js'
import { Envelope, openEnvelope } from './envelope.js'
import { DAY, OAEP, Refused, ensure, idText, identity, keyId, loginToken, messageId, random, subtle } from './keys.js'

const MAX_SEEN = 4096 // ids remembered of each sender, before its floor is raised (7.6)

export const now = () => Date.now()
export const say = (...words) => console.error(...words)

/** The file has the old bytes or the new, whenever the power goes. */
export function write (path, data) {
  const made = join(dirname(path), `.${basename(path)}.${process.pid}`) // `send` and `listen` may write the same file
  fs.writeFileSync(made, data)
  const file = fs.openSync(made, 'r+')
  fs.fsyncSync(file)
  fs.closeSync(file)
  fs.renameSync(made, path)
  const folder = fs.openSync(dirname(path), 'r')
  fs.fsyncSync(folder)
  fs.closeSync(folder)
}

const kept = async (path, make) => {
  if (!fs.existsSync(path)) write(path, await make())
  return fs.readFileSync(path)
}

export class Home {
  #seen = new Map() // sender -> Map of ids and times
  #floors = new Map()
  #opened = new Map()

  static async open (folder, realm, user) {
    process.umask(0o077) // the keys lie here in the clear, as nobody is there to type a passphrase (5.5)
    const home = Object.assign(new Home(), { folder, realm, user })
    for (const name of ['contacts', 'outbox', 'sent', 'refused', 'waiting', 'failures']) {
      fs.mkdirSync(home.path(name), { recursive: true })
    }
    const pkcs8 = async (algorithm, usages) =>
      Buffer.from(await subtle.exportKey('pkcs8', (await subtle.generateKey(algorithm, true, usages)).privateKey))
    home.me = await identity(await kept(home.path('identity'), () => pkcs8('Ed25519', ['sign', 'verify'])))
    const der = await kept(home.path('decryption_key'), () =>
      pkcs8({ ...OAEP, modulusLength: 3072, publicExponent: Uint8Array.of(1, 0, 1) }, ['encrypt', 'decrypt']))
    const secret = await subtle.importKey('pkcs8', der, OAEP, true, ['decrypt'])
    const { kty, n, e } = await subtle.exportKey('jwk', secret)
    const spki = Buffer.from(await subtle.exportKey('spki', await subtle.importKey('jwk', { kty, n, e }, OAEP, true, ['encrypt'])))
    home.keys = new Map([[(await keyId(realm, home.me.key, spki)).toString('hex'), secret]])
    home.#load()
    // 6.4: the bundle is made again half a year before it expires.
    const last = await Bundle.parse(await kept(home.path('bundle'), () => home.#signBundle(spki, 0)))
    home.bundle = now() < last.expires - 180 * DAY ? last.encode() : await home.#signBundle(spki, last.seq)
    write(home.path('bundle'), home.bundle)
    return home
  }

  path (...names) { return join(this.folder, ...names) }
  list (name) { return fs.readdirSync(this.path(name)).filter((file) => !file.startsWith('.')).sort() }
  token (clientId) { return loginToken(this.me, this.realm, this.user, clientId, now(), random(16)) }

  async #signBundle (spki, last) {
    const [realm, user, created] = [this.realm, this.user, now()]
    const seq = Math.max(last + 1, Math.floor(created / 1000))
    const members = { realm, user, seq, created, expires: created + 365 * DAY, encryption: [{ alg: ALG, key: spki }] }
    return (await Bundle.make(this.me, members)).encode()
  }

  async believed (user) {
    const path = this.path('contacts', user)
    return fs.existsSync(path) ? Bundle.parse(fs.readFileSync(path)) : undefined
  }

  /** 6.6: believes a bundle and stores it, or refuses it. What is believed is the pin. */
  async assess (user, payload) {
    const bundle = await Bundle.parse(payload)
    const outcome = await assess(await this.believed(user), bundle, this.realm, user, now())
    if (['first-contact', 'linked-change'].includes(outcome)) say(`${outcome}: ${user} is ${bundle.identity.toString('hex')}`)
    if (outcome !== 'unchanged') write(this.path('contacts', user), payload)
  }

  /** The bundle to seal for: this one, or that believed before when the broker has none, or an old one (6.6). */
  async reachable (user, payload) {
    try {
      if (payload) await this.assess(user, payload)
      else say(`the broker has no bundle of ${user}`)
    } catch (error) {
      if (!(error instanceof Refused) || error.message === 'identity-changed') throw error
      say(`the bundle of ${user}: ${error.message}`)
    }
    const bundle = await this.believed(user)
    ensure(bundle, `nothing is known of ${user}`)
    return bundle
  }

  // received.jsonl is both the mail and the ids seen, so that storing one and marking the other is one write (7.6).
  #load () {
    const path = this.path('received.jsonl')
    const data = fs.existsSync(path) ? fs.readFileSync(path) : Buffer.alloc(0)
    const whole = data.subarray(0, data.lastIndexOf('\n') + 1) // the power may have gone in the middle of a line
    if (whole.length < data.length) write(path, whole)
    for (const line of whole.toString().split('\n').slice(0, -1)) this.#remember(JSON.parse(line))
  }

  #remember ({ from, id, ts }) {
    if (!this.#seen.has(from)) this.#seen.set(from, new Map())
    const seen = this.#seen.get(from)
    seen.set(messageId(id).toString('hex'), ts)
    if (seen.size <= MAX_SEEN) return
    const oldest = [...seen].sort(([, a], [, b]) => a - b).slice(0, MAX_SEEN / 2) // the floor covers them from now on
    for (const [old] of oldest) seen.delete(old)
    this.#floors.set(from, oldest.at(-1)[1] + 1)
  }

  /** 7.5 and 7.6; gives what was received, or nothing when the sender's bundle is needed first (7.8). */
  async receive (payload) {
    const e = Envelope.parse(payload)
    const pin = await this.believed(e.from)
    if (!pin && e.to === this.user) return undefined
    // Mail is under way when its sender changes identity: 45 days for the old one.
    const signers = pin ? [pin.identity, ...pin.links.filter((link) => now() < link.at + 45 * DAY).map((link) => link.old)] : []
    const path = this.path('failures', e.signer.toString('hex')) // a byte for each (7.7)
    const failures = fs.existsSync(path) ? fs.readFileSync(path, 'latin1') : ''
    const content = await openEnvelope(e, {
      realm: this.realm,
      user: this.user,
      keys: this.keys,
      signers,
      seen: this.#seen.get(e.from) ?? new Map(),
      floor: this.#floors.get(e.from) ?? 0,
      suspended: failures.length >= 3,
      cache: this.#opened
    }).catch((error) => {
      if (error.message === 'cannot-decrypt') write(path, failures + '.')
      throw error
    })
    const line = { from: e.from, id: idText(e.id), ts: e.ts, content }
    const file = fs.openSync(this.path('received.jsonl'), 'a')
    fs.writeSync(file, JSON.stringify(line) + '\n')
    fs.fsyncSync(file)
    fs.closeSync(file)
    this.#remember(line)
    return line
  }
}
