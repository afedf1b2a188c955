// Requests to the server, repeated while it does not answer or is overloaded.

const RETRY_DELAY = 1000; // milliseconds
const TIMEOUT = 20_000; // milliseconds

const pause = (milliseconds) => new Promise((resume) => setTimeout(resume, milliseconds));

let isOffline = false; // the last request got no response

// Return the JSON response of the server; repeat while it is offline or overloaded, unless
// `isOutdated()`. `showProblem` shows an error, or "" for none. When the server is online again, or
// rejects what it offered before, the window gets the event "serverchange": its models may differ.
export async function fetchJson(path, { body, isOutdated = () => false, showProblem = () => {} } = {}) {
  const options = body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  for (let tries = 0; ; tries++) {
    const reply = await fetch(path, { ...options, signal: AbortSignal.timeout(TIMEOUT) }).catch(() => null);
    const value = (await reply?.json().catch(() => null)) ?? {};
    const hasChanged = reply && (isOffline || reply.status === 404);
    isOffline = !reply;
    if (hasChanged) window.dispatchEvent(new Event("serverchange"));
    if (reply?.ok) {
      if (tries) showProblem("");
      return value;
    }
    const problem = !reply ? "The server does not answer. Is it still running?"
      : value.detail ? `The server says: ${value.detail}.` : `The server failed (${reply.status}).`;
    if (reply && reply.status !== 429) throw new Error(problem);
    showProblem(problem);
    await pause(RETRY_DELAY);
    if (isOutdated()) throw new Error(problem);
  }
}
