// A Formfile and its context become an image and a bootable disk.
export {};
