// Requests to the server: one that is away or busy is asked again.

const AGAIN = 1000; // milliseconds before a server that did not answer is asked again
const PATIENCE = 20_000; // milliseconds for a reply

const pause = (milliseconds) => new Promise((resume) => setTimeout(resume, milliseconds));

let away = false; // the last request got no reply

// Return the reply of the server; ask again while it is away or has too much to do, unless
// `late()`. `say` shows what is wrong, "" for nothing. When the server is back, or refuses what
// it offered before, the window gets the event "serverchange": its models may be others.
export async function ofServer(path, { body, late = () => false, say = () => {} } = {}) {
  const sent = body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  for (let tries = 0; ; tries++) {
    const reply = await fetch(path, { ...sent, signal: AbortSignal.timeout(PATIENCE) }).catch(() => null);
    const value = (await reply?.json().catch(() => null)) ?? {};
    const changed = reply && (away || reply.status === 404);
    away = !reply;
    if (changed) window.dispatchEvent(new Event("serverchange"));
    if (reply?.ok) {
      if (tries) say("");
      return value;
    }
    const problem = !reply ? "The server does not answer. Is it still running?"
      : value.detail ? `The server says: ${value.detail}.` : `The server failed (${reply.status}).`;
    if (reply && reply.status !== 429) throw new Error(problem);
    say(problem);
    await pause(AGAIN);
    if (late()) throw new Error(problem);
  }
}
