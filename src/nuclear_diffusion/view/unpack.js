// Films inside a page: it stands behind player.js, in the same script.

/** A film from its sizes and its planes as `packed` of film.py writes them. */
async function unpacked(info, packed) {
  const planes = {};
  for (const [name, text] of Object.entries(packed)) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const parts = new Uint8Array(await new Response(stream).arrayBuffer());
    const Kind = name === "share" ? Uint16Array : Uint8Array;
    const plane = (planes[name] = new Kind(parts.length / Kind.BYTES_PER_ELEMENT));
    const frame = plane.length / info.frames;
    for (let k = 0; k < plane.length; k++) {
      const change = Kind === Uint8Array ? parts[k] : parts[k] | (parts[k + plane.length] << 8);
      plane[k] = change + (k < frame ? 0 : plane[k - frame]); // modulo 2^8 or 2^16
    }
  }
  const film = Object.assign(new Film(info, planes.input), planes);
  film.setStrength(info.strength);
  return film;
}
