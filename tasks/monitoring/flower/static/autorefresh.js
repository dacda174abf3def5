/*jslint browser: true */

// Whether Flower's list of workers refreshes; flower.js reads this variable.
var autorefresh = Number(document.currentScript.dataset.autorefresh);
