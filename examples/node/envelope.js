// Envelopes: sealing and opening.
import { visit } from 'jsonc-parser'
import {
  OAEP, REALM, USER, Refused, b64, binary, encryptionKey, ensure, idText, identityKey, keyId, matching, messageId, random, sha256,
  sign, strictly, subtle, time, timeText, transcript, u64, verify
} from './keys.js'

const SUITE = 'RSA-OAEP-256/A256GCM/Ed25519'
const KIND = /^[a-z0-9][a-z0-9._-]{0,63}$/

export class Envelope { // 7
  constructor (members) { Object.assign(this, members) }

  static parse (data) {
    return strictly(data, 98_304, (m) => {
      const ciphertext = binary(m.ciphertext, 272, 65_552)
      ensure(padded(ciphertext.length - 16) === ciphertext.length - 16, 'wrong-length')
      return new Envelope({
        realm: matching(REALM, m.realm),
        id: messageId(m.id),
        prev: m.prev === null ? Buffer.alloc(0) : messageId(m.prev),
        ts: time(m.ts),
        from: matching(USER, m.from),
        to: matching(USER, m.to),
        key: binary(m.key, 32),
        signer: identityKey(binary(m.signer, 32)),
        encKey: binary(m.enc_key, 256, 512),
        nonce: binary(m.nonce, 12),
        ciphertext,
        sig: binary(m.sig, 64)
      })
    })
  }

  encode () {
    const prev = this.prev.length ? `"${idText(this.prev)}"` : 'null'
    return Buffer.from(`{"v":1,"suite":"${SUITE}","realm":"${this.realm}","id":"${idText(this.id)}","prev":${prev},` +
      `"ts":${timeText(this.ts)},"from":"${this.from}","to":"${this.to}","key":"${b64(this.key)}",` +
      `"signer":"${b64(this.signer)}","enc_key":"${b64(this.encKey)}","nonce":"${b64(this.nonce)}",` +
      `"ciphertext":"${b64(this.ciphertext)}","sig":"${b64(this.sig)}"}`)
  }

  #header () { // 7.2
    return [this.realm, [1], SUITE, this.id, this.prev, u64(this.ts), this.from, this.to, this.key, this.signer]
  }

  aad () { return transcript('sealpost/1 aad', ...this.#header()) }
  signed () { return transcript('sealpost/1 envelope', ...this.#header(), this.encKey, this.nonce, this.ciphertext) }
}

export function padded (length) { // 8.2
  if (length <= 256) return 256
  const e = 31 - Math.clz32(length)
  const mask = (1 << (e - (32 - Math.clz32(e)))) - 1
  return (length + mask) & ~mask
}

const gcm = (e) => ({ name: 'AES-GCM', iv: e.nonce, additionalData: e.aad() })

/** 7.4: one wrapped key for at most 1,024 envelopes and 60 s. */
export class Burst {
  static async begin (me, realm, from, bundle, now) {
    const [spki] = bundle.usableKeys
    ensure(spki, 'no-encryption-key')
    ensure(bundle.inTime(now), 'bundle-not-valid')
    const raw = random(32)
    const encKey = Buffer.from(await subtle.encrypt(OAEP, await encryptionKey(spki), raw))
    const secret = await subtle.importKey('raw', raw, 'AES-GCM', false, ['encrypt'])
    raw.fill(0)
    const key = await keyId(realm, bundle.identity, spki)
    return Object.assign(new Burst(), { me, secret, made: now, left: 1024, fixed: { realm, from, to: bundle.user, key, encKey } })
  }

  lasts (now) { return this.left > 0 && now >= this.made && now < this.made + 60_000 }

  async seal (content, prev, now) { // 7.3
    const plaintext = Buffer.from(content)
    ensure(plaintext.length <= 65_536, 'too-long')
    const id = Buffer.concat([u64(now).subarray(2), random(10)])
    id[6] = 0x70 | (id[6] & 0x0f)
    id[8] = 0x80 | (id[8] & 0x3f)
    const e = new Envelope({ ...this.fixed, id, prev, ts: now, signer: this.me.key, nonce: random(12) })
    const spaces = Buffer.alloc(padded(plaintext.length) - plaintext.length, ' ')
    e.ciphertext = Buffer.from(await subtle.encrypt(gcm(e), this.secret, Buffer.concat([plaintext, spaces])))
    e.sig = await sign(this.me, e.signed())
    this.left -= 1
    return e
  }
}

/**
 * 7.5. `keys`: my decryption keys by key id; `signers`: whose signature counts for `e.from`; `cache`: a Map (7.4), and all Maps
 * and Sets go by hexadecimal.
 */
export async function openEnvelope (e, { realm, user, keys, signers, seen, floor, suspended, cache }) {
  ensure(e.to === user, 'not-for-me')
  ensure(e.realm === realm, 'wrong-realm')
  ensure(signers.some((signer) => e.signer.equals(signer)), 'signer-is-not-pinned')
  await verify(e.signer, e.signed(), e.sig)
  ensure(!seen.has(e.id.toString('hex')), 'already-seen')
  ensure(e.ts >= floor, 'below-floor')
  ensure(!suspended, 'suspended')
  const mine = keys.get(e.key.toString('hex'))
  ensure(mine !== undefined, 'unknown-key')
  const index = [e.key, e.signer, await sha256(e.encKey)].map((part) => part.toString('hex')).join()
  let secret = cache.get(index)
  let plaintext
  try {
    if (!secret) {
      ensure(e.encKey.length === Math.ceil(mine.algorithm.modulusLength / 8), 'cannot-decrypt')
      const raw = await subtle.decrypt(OAEP, mine, e.encKey) // OpenSSL refuses what is not below the modulus
      ensure(raw.byteLength === 32, 'cannot-decrypt')
      secret = await subtle.importKey('raw', raw, 'AES-GCM', false, ['decrypt'])
    }
    plaintext = Buffer.from(await subtle.decrypt(gcm(e), secret, e.ciphertext))
  } catch {
    throw new Refused('cannot-decrypt')
  }
  if (cache.size >= 64) cache.clear()
  cache.set(index, secret)
  return parseContent(plaintext)
}

export function parseContent (plaintext) { // 8.1
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(plaintext)
    const content = JSON.parse(text)
    // JSON.parse keeps the last of two members with one name, and tells nobody.
    const names = new Set()
    let depth = 0
    visit(text, {
      onObjectBegin: () => { depth++ },
      onObjectEnd: () => { depth-- },
      onArrayBegin: () => { depth++ },
      onArrayEnd: () => { depth-- },
      onObjectProperty: (name) => {
        ensure(depth > 1 || !(names.has(name) || /\p{Surrogate}/u.test(name)), 'bad-content')
        if (depth === 1) names.add(name)
      }
    })
    ensure(names.size > 0 && !Array.isArray(content), 'bad-content')
    matching(KIND, content.kind)
    ensure(content.kind !== 'text' || (typeof content.text === 'string' && !/\p{Surrogate}/u.test(content.text)), 'bad-content')
    return content
  } catch {
    throw new Refused('bad-content')
  }
}
