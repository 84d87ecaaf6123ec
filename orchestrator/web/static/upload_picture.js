// Makes a chosen file fit to be sent: photos are drawn again, smaller, without notes of place and camera.
"use strict";

const picture = (() => {
  const LARGEST_FILE = 5000000;
  // Three photos of this size stay below what may be sent together, 10,000,000 bytes.
  const LARGEST_PHOTO = 3000000;
  // The longest side in pixels, and the quality, tried in this order until the photo is small enough.
  const TRIES = [[3000, 0.9], [3000, 0.8], [2400, 0.8], [1800, 0.8], [1200, 0.7], [900, 0.5]];
  const SMALLER = 3; // where to begin when the connection is bad

  const begins = async (file) => new Uint8Array(await file.slice(0, 32).arrayBuffer());
  const text = (bytes, from, to) => String.fromCharCode(...bytes.slice(from, to));
  const isPdf = (bytes) => text(bytes, 0, 5) === "%PDF-";
  // ISO 14496-12: a box `ftyp` whose brand is one of those for HEIF.
  const isHeic = (bytes) => text(bytes, 4, 8) === "ftyp" && /hei[cfmsx]|hev[cmsx]|mif1|msf1/.test(text(bytes, 8, 32));

  const decoded = async (file) => {
    try {
      return await createImageBitmap(file, { imageOrientation: "from-image" });
    } catch {
      // Some browsers show what they do not give as a bitmap.
    }
    const image = new Image();
    const url = URL.createObjectURL(file);
    try {
      image.src = url;
      await image.decode();
      return image;
    } catch {
      return null;
    } finally {
      URL.revokeObjectURL(url);
    }
  };

  const drawn = (image, longest, quality) => {
    const [width, height] = [image.naturalWidth || image.width, image.naturalHeight || image.height];
    const scale = Math.min(1, longest / Math.max(width, height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
    const paper = canvas.getContext("2d");
    paper.fillStyle = "#fff";
    paper.fillRect(0, 0, canvas.width, canvas.height);
    paper.imageSmoothingQuality = "high";
    paper.drawImage(image, 0, 0, canvas.width, canvas.height);
    return new Promise((done) => { canvas.toBlob(done, "image/jpeg", quality); });
  };

  // {blob, isPhoto}, or {refused}: "heic", "unreadable" or "large".
  const fitted = async (file, small = false) => {
    const bytes = await begins(file);
    if (isPdf(bytes)) return file.size > LARGEST_FILE ? { refused: "large" } : { blob: file, isPhoto: false };
    const image = await decoded(file);
    if (!image) return { refused: isHeic(bytes) ? "heic" : "unreadable" };
    for (const [longest, quality] of TRIES.slice(small ? SMALLER : 0)) {
      const blob = await drawn(image, longest, quality);
      if (blob && blob.size <= LARGEST_PHOTO) {
        if (image.close) image.close();
        return { blob, isPhoto: true };
      }
    }
    return { refused: "unreadable" };
  };

  return { fitted };
})();
