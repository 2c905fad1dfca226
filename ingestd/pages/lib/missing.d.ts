// What TypeScript 4.8's DOM library does not know yet.

interface MediaRecorderOptions {
  /** ms between keyframes (MediaStream Recording, 2023) */
  videoKeyFrameIntervalDuration?: number;
}

/** Media Source Extensions 2: what an iPhone has instead of MediaSource. */
declare var ManagedMediaSource: typeof MediaSource | undefined;

interface HTMLMediaElement {
  disableRemotePlayback: boolean;
}

interface SourceBuffer {
  changeType(type: string): void;
}
