import { svgOf } from "./charts.js";
console.log(await svgOf({title:"t",xTitle:"flows",yTitle:"ns",kind:"bars",rule:200,rows:[{x:"1",y:200,who:"IPv4",group:"est"},{x:"65536",y:400,who:"IPv4",group:"est"},{x:"4096",y:300,who:"IPv6",group:"new"}]}));
