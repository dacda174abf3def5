/*jslint browser: true */

// Whether Flower's list of workers refreshes: flower.js reads this name.
var autorefresh = Number(document.currentScript.dataset.autorefresh);
