// Wake-ups and events: publish, consume, subscribe.
export {};
