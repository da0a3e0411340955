// Content-addressed blobs and append-only logs: build contexts, images, logs.
export {};
