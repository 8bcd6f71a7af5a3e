/** Frames of a camera, from when the reader asks until it is stopped or not seen any more; none leaves the page. */
import { grabPicture } from "./pictures.js";

/** @import {Picture} from "./pictures.js" */

export class Camera {
  /**
   * @param {(picture: Picture) => void} give takes each frame
   * @param {(text: string) => void} told is told whether it runs, and why not
   */
  constructor(give, told) {
    this.give = give;
    this.told = told;
    /** @type {MediaStream | null} */
    this.stream = null;
    /** Which start is the last: one that comes too late is undone. */
    this.turn = 0;
    this.video = document.createElement("video");
    this.video.muted = true;
    this.video.playsInline = true;
    this.canvas = document.createElement("canvas");
    document.addEventListener("visibilitychange", () => document.hidden && this.stop("The camera is off, since the page was hidden."));
  }

  get on() {
    return this.stream !== null;
  }

  /** Ask for the camera. @param {number} size of its frames, at most */
  async start(size) {
    this.stop("");
    const turn = ++this.turn;
    if (!navigator.mediaDevices?.getUserMedia) {
      this.told("This browser gives no camera to this page.");
      return;
    }
    this.told("Waiting for the camera.");
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: size }, height: { ideal: size } }, audio: false });
      if (turn !== this.turn) {
        stopTracks(stream);
        return;
      }
      this.stream = stream;
      stream.getVideoTracks()[0]?.addEventListener("ended", () => this.stop("The camera has gone."));
      this.video.srcObject = stream;
      await this.video.play();
    } catch (error) {
      if (turn === this.turn) this.stop(refusalWords(error));
      return;
    }
    this.told("The camera is on.");
    this.frame(turn, size);
  }

  /** One frame after the other, each when the one before is computed and shown. @param {number} turn @param {number} size */
  frame(turn, size) {
    if (turn !== this.turn || !this.stream) return;
    const { videoWidth: width, videoHeight: height } = this.video;
    if (width && height) this.give(grabPicture(this.video, width, height, size, this.canvas));
    requestAnimationFrame(() => this.frame(turn, size));
  }

  /** Give the camera back. @param {string} words */
  stop(words) {
    this.turn += 1;
    const { stream } = this;
    this.stream = null;
    this.video.srcObject = null;
    if (stream) stopTracks(stream);
    if (stream || words) this.told(words);
  }
}

/** @param {MediaStream} stream */
function stopTracks(stream) {
  for (const track of stream.getTracks()) track.stop();
}

/** Why there is no camera. @param {unknown} error */
function refusalWords(error) {
  const name = error instanceof Error || error instanceof DOMException ? error.name : "";
  if (name === "NotAllowedError" || name === "SecurityError") return "The camera was refused: by you, by the browser, or by the page that holds this one.";
  if (name === "NotFoundError" || name === "OverconstrainedError") return "There is no camera.";
  if (name === "NotReadableError") return "The camera is in use by another program.";
  return `There is no picture from the camera (${name || String(error)}).`;
}
