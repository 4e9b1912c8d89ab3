// Notation, encoding, keys and logins, on WebCrypto. Numbers in comments are sections of core/SPEC.md.
//
// Nothing in this file, bundle.js and envelope.js touches a socket, a file or a clock. Times are milliseconds since 1970.
import { webcrypto } from 'node:crypto'

export const { subtle } = webcrypto
export const random = (length) => Buffer.from(webcrypto.getRandomValues(new Uint8Array(length)))
export const DAY = 86_400_000
export const OAEP = { name: 'RSA-OAEP', hash: 'SHA-256' } // WebCrypto uses the same hash in MGF1
export const USER = /^[a-z0-9][a-z0-9_-]{0,63}$/
export const REALM = /^[a-z0-9.-]{1,64}$/
export const UUID7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
const TIME = /^(0|[1-9][0-9]{0,9})\.[0-9]{3}$/
const P = 2n ** 255n - 19n
const SMALL_ORDER = [ // 5.1
  '00'.repeat(32), '01' + '00'.repeat(31), 'ec' + 'ff'.repeat(30) + '7f',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a']

/** Something that does not hold. Its message is the error's name in section 13. */
export class Refused extends Error {}

export function ensure (holds, why) {
  if (!holds) throw new Refused(why)
}

export const u32 = (n) => { const data = Buffer.alloc(4); data.writeUInt32BE(n); return data }
export const u64 = (n) => { const data = Buffer.alloc(8); data.writeBigUInt64BE(BigInt(n)); return data }
export const b64 = (data) => Buffer.from(data).toString('base64')
export const timeText = (ms) => `${Math.floor(ms / 1000)}.${String(ms % 1000).padStart(3, '0')}`
export const idText = (id) => id.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
export const sha256 = async (data) => Buffer.from(await subtle.digest('SHA-256', data))

export function transcript (label, ...fields) { // 4.3
  return Buffer.concat([label, ...fields].map((f) => Buffer.from(f)).flatMap((f) => [u32(f.length), f]))
}

export function matching (grammar, text) {
  ensure(typeof text === 'string' && grammar.test(text), 'bad-format')
  return text
}

export function binary (text, shortest, longest = shortest) {
  ensure(typeof text === 'string', 'wrong-type')
  const data = Buffer.from(text, 'base64') // lenient: what is encoded again and compared decides
  ensure(data.length >= shortest && data.length <= longest, 'wrong-length')
  return data
}

export const messageId = (text) => Buffer.from(matching(UUID7, text).replaceAll('-', ''), 'hex')
export const millis = (text) => Number(matching(TIME, text).replace('.', ''))

/** A time that JSON.parse has read: thirteen digits fit into a double, so rounding gives the milliseconds exactly (4.1). */
export function time (number) {
  ensure(typeof number === 'number' && number >= 0 && number < 1e10, 'bad-time')
  return Math.round(number * 1000)
}

const yOf = (point) => Buffer.concat([point.subarray(0, 31), Buffer.of(point[31] & 0x7f)])
const smallOrder = (point) => SMALL_ORDER.includes(yOf(point).toString('hex'))

function power (base, exponent) {
  let result = 1n
  for (base = ((base % P) + P) % P; exponent; exponent >>= 1n, base = base * base % P) {
    if (exponent & 1n) result = result * base % P
  }
  return result
}

export function identityKey (key) { // 5.1
  const y = BigInt('0x' + yOf(key).reverse().toString('hex'))
  ensure(key.length === 32 && y < P && !smallOrder(key), 'bad-identity-key')
  const d = -121665n * power(121666n, P - 2n)
  const x2 = (y * y - 1n) * power(d * y * y + 1n, P - 2n)
  ensure(power(x2, (P - 1n) / 2n) === 1n, 'bad-identity-key')
  return key
}

export async function verify (key, message, sig) { // 5.2; OpenSSL checks S < L and the encoding of R
  ensure(!smallOrder(key) && !smallOrder(sig.subarray(0, 32)), 'bad-signature')
  const loaded = await subtle.importKey('raw', key, 'Ed25519', false, ['verify'])
  ensure(await subtle.verify('Ed25519', loaded, sig, message), 'bad-signature')
}

/** Whoever we are: `{ secret, key }`. */
export async function identity (pkcs8) {
  const secret = await subtle.importKey('pkcs8', pkcs8, 'Ed25519', true, ['sign'])
  const { x } = await subtle.exportKey('jwk', secret)
  return { secret, key: Buffer.from(x, 'base64url') }
}

export const sign = async (me, message) => Buffer.from(await subtle.sign('Ed25519', me.secret, message))

export async function encryptionKey (spki) { // 5.3
  const key = await subtle.importKey('spki', spki, OAEP, true, ['encrypt']).catch(() => ensure(false, 'bad-der'))
  const { modulusLength, publicExponent } = key.algorithm
  ensure(modulusLength >= 2048 && modulusLength <= 4096 && Buffer.from(publicExponent).equals(Buffer.of(1, 0, 1)), 'bad-key')
  const again = await subtle.exportKey('spki', key).catch(() => ensure(false, 'bad-der'))
  // The DER ends with the exponent (02 03 01 00 01), and before it the modulus, which is odd.
  ensure(Buffer.from(again).equals(spki) && spki.at(-6) & 1, 'bad-key')
  return key
}

export const keyId = (realm, owner, spki) => sha256(transcript('sealpost/1 key', realm, owner, spki)) // 5.4

/** 4.2: what parses is encoded again and compared. `read` is given what JSON says, and an object made by it can `encode`. */
export function strictly (data, limit, read) {
  ensure(data.length <= limit, 'too-large')
  let value
  try {
    value = read(JSON.parse(data.toString('latin1'))) // ASCII, or it will not be equal
  } catch (error) {
    if (error instanceof Refused) throw error
    throw new Refused('malformed')
  }
  ensure(value.encode().equals(data), 'not-canonical')
  return value
}

export async function loginToken (me, realm, user, clientId, now, nonce, binding = '') { // 10.2
  const fields = [me.key, u64(now), nonce]
  const sig = await sign(me, transcript('sealpost/1 login', realm, user, clientId, ...fields, binding))
  return Buffer.concat([...fields, sig]).toString('base64url')
}
