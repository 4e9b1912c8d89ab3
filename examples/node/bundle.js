// Key bundles: who somebody is, and how to seal for them.
import {
  DAY, REALM, USER, b64, binary, encryptionKey, ensure, identityKey, matching, sha256, sign, strictly, time, timeText, transcript,
  u32, u64, verify
} from './keys.js'

export const ALG = 'RSA-OAEP-256'
const LIMIT = 16_384

export class Bundle { // 6
  constructor (members) { Object.assign(this, members) }

  static async parse (data) {
    const bundle = strictly(data, LIMIT, (m) => {
      ensure(m.encryption.length <= 4 && m.links.length <= 8, 'too-many')
      return new Bundle({
        realm: matching(REALM, m.realm),
        user: matching(USER, m.user),
        seq: m.seq,
        created: time(m.created),
        expires: time(m.expires),
        identity: identityKey(binary(m.identity, 32)),
        encryption: m.encryption.map(({ alg, key }) =>
          ({ alg: matching(/^[A-Za-z0-9_.+/-]{1,64}$/, alg), key: binary(key, 1, LIMIT) })),
        links: m.links.map((link) => ({
          old: identityKey(binary(link.old, 32)),
          new: identityKey(binary(link.new, 32)),
          at: time(link.at),
          sig: binary(link.sig, 64)
        })),
        sig: binary(m.sig, 64)
      })
    })
    await bundle.#check()
    return bundle
  }

  static async make (me, members) {
    const bundle = new Bundle({ ...members, identity: me.key, links: [] })
    bundle.sig = await sign(me, bundle.transcript())
    return bundle
  }

  encode () {
    const keys = this.encryption.map(({ alg, key }) => `{"alg":"${alg}","key":"${b64(key)}"}`)
    const links = this.links.map((link) =>
      `{"old":"${b64(link.old)}","new":"${b64(link.new)}","at":${timeText(link.at)},"sig":"${b64(link.sig)}"}`)
    return Buffer.from(`{"v":1,"realm":"${this.realm}","user":"${this.user}","seq":${this.seq},` +
      `"created":${timeText(this.created)},"expires":${timeText(this.expires)},"identity":"${b64(this.identity)}",` +
      `"encryption":[${keys}],"links":[${links}],"sig":"${b64(this.sig)}"}`)
  }

  transcript () { // 6.2
    return transcript('sealpost/1 bundle', [1], this.realm, this.user, u64(this.seq), u64(this.created), u64(this.expires),
      this.identity,
      u32(this.encryption.length), ...this.encryption.flatMap(({ alg, key }) => [alg, key]),
      u32(this.links.length), ...this.links.flatMap((link) => [link.old, link.new, u64(link.at), link.sig]))
  }

  async #check () { // 6.1, 6.3
    ensure(Number.isSafeInteger(this.seq) && this.seq >= 1, 'bad-seq')
    ensure(this.created < this.expires && this.expires <= this.created + 400 * DAY, 'bad-validity')
    for (const key of this.usableKeys) await encryptionKey(key)
    const retired = []
    let successor
    for (const link of this.links) {
      const old = b64(link.old)
      ensure(!retired.includes(old) && old === (successor ?? old), 'broken-chain')
      retired.push(old)
      successor = b64(link.new)
      ensure(!retired.includes(successor), 'retired-identity-returns')
      await verify(link.old, transcript('sealpost/1 link', this.realm, this.user, link.old, link.new, u64(link.at)), link.sig)
    }
    ensure(b64(this.identity) === (successor ?? b64(this.identity)), 'links-lead-elsewhere')
    await verify(this.identity, this.transcript(), this.sig)
  }

  digest () { return sha256(this.encode()) }

  get usableKeys () { return this.encryption.filter(({ alg }) => alg === ALG).map(({ key }) => key) }

  inTime (now) { return this.created <= now + DAY && now < this.expires }
}

/** 6.6 steps 2 to 4. `pin` is the bundle last believed, or nothing. */
export async function assess (pin, bundle, realm, user, now) {
  ensure(bundle.realm === realm, 'wrong-realm')
  ensure(bundle.user === user, 'wrong-user')
  const linked = pin && bundle.links.some((link) => link.old.equals(pin.identity))
  if (pin && !pin.identity.equals(bundle.identity)) {
    ensure(linked, 'identity-changed')
  } else if (pin) {
    ensure(bundle.seq >= pin.seq, 'rolled-back')
    ensure(bundle.seq > pin.seq || (await bundle.digest()).equals(await pin.digest()), 'forked')
  }
  // Whoever retired an identity has no way back (6.4).
  ensure(!pin || pin.encryption.length || !(linked || bundle.encryption.length), 'retired')
  ensure(bundle.created <= now + DAY, 'from-the-future')
  ensure(now < bundle.expires, 'expired')
  return !pin ? 'first-contact' : linked ? 'linked-change' : bundle.seq === pin.seq ? 'unchanged' : 'newer'
}
